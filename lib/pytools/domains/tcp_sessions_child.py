"""Runs as a child process only: writes the TCP sessions that are open, as sock_diag has
them (pyroute2), to standard output: [[[cookie, pid, name, began, exact], ...], [why, ...]] as
JSON. The last are the reasons for which namespaces could not be entered, one of each."""
from __future__ import annotations

import errno
import json
import os
import signal
import sys
from socket import AF_INET, AF_INET6

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))

from pytools.base.annotations import TYPE_CHECKING  # noqa: E402
from pytools.base.system import kernel_time  # noqa: E402
from pytools.domains.network_namespaces import namespaces  # noqa: E402
from pytools.domains.socket_holders import holders  # noqa: E402

if TYPE_CHECKING:
    from typing import Any


# Seconds: the tool, which waits for less, has been killed.
LONGEST = 120
INET_DIAG_INFO = 2  # of the extensions, which are asked for by bit (linux/inet_diag.h)


def in_namespace(path: str, found: dict[int, Any]) -> None:
    """Put the sessions of a network namespace to those found, by cookie. Raises OSError where it
    can't be entered."""
    from pyroute2 import DiagSocket, netns
    from pyroute2.netlink.diag import SS_CONN

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return  # gone meanwhile
        raise
    try:
        netns.setns(descriptor)
    finally:
        os.close(descriptor)
    for family in (AF_INET, AF_INET6):
        with DiagSocket() as diag:
            diag.bind()
            for message in diag.get_sock_stats(
                family=family, states=SS_CONN, extensions=1 << INET_DIAG_INFO - 1
            ):
                found[message["idiag_cookie"]] = message, *began(message)


def began(message: Any) -> tuple[int, bool]:
    """Since when a session is open, in monotonic time, and whether that is exact: the
    kernel does not keep it, but takes it for the time of the last data until there are
    any (struct tcp_info, tcp_finish_connect(), tcp_rcv_state_process())."""
    now = kernel_time()
    info = message.get_attr("INET_DIAG_INFO")
    if info is None:
        return now, False
    for data, last in (("out", "sent"), ("in", "recv")):
        if not info[f"tcpi_data_segs_{data}"]:
            return now - info[f"tcpi_last_data_{last}"] * 1_000_000, True
    ages = (info[f"tcpi_last_{what}"] for what in ("data_sent", "data_recv", "ack_recv"))
    return now - max(ages) * 1_000_000, False


def main() -> None:
    signal.alarm(LONGEST)
    found: dict[int, Any] = {}
    left_out = []
    for path in namespaces().values():
        try:
            in_namespace(path, found)
        except OSError as error:
            left_out.append(error.strerror or str(error))
    known = holders({message["idiag_inode"] for message, *_ in found.values()})
    rows = [
        [cookie, *known.get(message["idiag_inode"], (0, ""))[:2], *times]
        for cookie, (message, *times) in found.items()
    ]
    json.dump([rows, left_out], sys.stdout)


if __name__ == "__main__":
    main()
