"""Sockets of processes: the names of their protocols, and which calls about them are not seen."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.domains import internet
from pytools.domains.open_files import COMPAT_PROGRAMS, THROUGH_IO_URING, tell_unseen
from pytools.facts.differences import has_socket_requests
from pytools.facts.kernel import running

if TYPE_CHECKING:
    from typing import Callable, Sequence


__all__ = ["OPTIONS", "but_unseen", "has_ports", "protocol"]

MPTCP = 262  # IPPROTO_MPTCP, which is no protocol of packets
# A letter for each bit of options_of() (bpf/socket_options.h), as bcc's bindsnoop has them.
OPTIONS = "FTNRr"


def protocol(number: int) -> str:
    """The name of a socket's protocol.

    >>> protocol(6), protocol(262), protocol(253)
    ('TCP', 'MPTCP', '253')
    """
    return "MPTCP" if number == MPTCP else internet.protocol_name(number).upper()


def has_ports(number: int) -> bool:
    """Whether sockets of that protocol have ports."""
    return number == MPTCP or internet.has_ports(number)


def but_unseen(
    what: str,
    function: str,
    targets: set[str],
    pids: Sequence[int] | None,
    tell: Callable[[str], None],
) -> str:
    """The end of a sentence that tells which calls are not seen: those of 32-bit programs, which
    tracepoints of system calls leave out; and requests of io_uring, where the kernel has them and
    ``function`` is not among the ``targets`` of the program. ``tell`` is told which of the
    processes ``pids`` may make such."""
    unseen = [COMPAT_PROGRAMS]
    if function not in targets and has_socket_requests(running()):
        unseen.append(THROUGH_IO_URING)
    tell_unseen(unseen, pids or (), tell, what)
    return f", but not {' or '.join(unseen)}"
