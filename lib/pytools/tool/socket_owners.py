"""The processes of sockets (``bpf/socket_owner.h``) that did not show in the kernel, and so did
not pass its filters of tasks there."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.domains.internet import address
from pytools.show.stream import plain
from pytools.tool.name_filters import matches
from pytools.tool.socket_fields import WANTED

if TYPE_CHECKING:
    import argparse
    from typing import Any

__all__ = ["passes", "with_owner"]


def passes(options: argparse.Namespace, pid: int, comm: Any) -> bool:
    """Whether a process, 0 if none is known, and its name pass the filters of tasks. Of its cgroup,
    namespace, user and threads nothing is known."""
    unknown = ("cgroup", "cgroupmap", "command", "mntnsmap", "pidns", "thread", "uid")
    if any(getattr(options, name, None) is not None for name in unknown):
        return False
    if options.comm is not None and not matches(options.comm, plain(comm, None) or ""):
        return False
    return not options.pid or pid in options.pid


def with_owner(options: argparse.Namespace, record: Any, pid: int, comm: Any, **more: Any) -> Any:
    """A record with the text of its addresses, and this process and what else is given; None if
    nobody wants it."""
    if record.owned != WANTED and not passes(options, pid, comm):
        return None
    return record._replace(
        pid=pid or None, comm=comm if pid else None,
        laddr=address(record.laddr, record.family), raddr=address(record.raddr, record.family),
        **more,
    )  # fmt: skip
