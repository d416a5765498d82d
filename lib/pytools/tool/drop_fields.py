"""What tools about dropped packets share (``struct drop`` of ``bpf/drop.h``): fields, options, and
the start of what is described in Python (``domains/drops.py``)."""
from __future__ import annotations

import argparse
from functools import partial

from pytools.base.annotations import TYPE_CHECKING
from pytools.domains.drops import Places, Reasons, carried, described, only_in
from pytools.domains.internet import has_ports, known_address
from pytools.domains.socket_holders import Holders
from pytools.tool import socket_fields as sockets
from pytools.tool.fields import Field, in_words, kept

if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator

    from pytools.load.program import Program
    from pytools.tool.definition import Tool

__all__ = [
    "Drops", "FLAGS", "INTERFACE", "KEPT", "LENGTH", "PLACE", "REASON", "STACK", "STATE",
    "add_options",
]  # fmt: skip

STACK_BYTES = 8 * 127  # of the deepest (kernel.perf_event_max_stack)
_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")


def flag_names(bits: int) -> str | None:
    """The flags of a segment; None where there are none.

    >>> flag_names(0x12)
    'SYN|ACK'
    """
    return "|".join(name for bit, name in enumerate(_FLAGS) if bits >> bit & 1) or None


def stack_lines(callers: tuple[str, ...] | None) -> str | None:
    """The callers for programs: the outermost first, with semicolons between them."""
    return ";".join(reversed(callers)) if callers else None


REASON = in_words(
    "REASON", "Why the packet was dropped: a name of the kernel's enum skb_drop_reason, without "
    "SKB_DROP_REASON_. Linux before 5.17 does not tell it.", 21, "", Reasons().name,
    of="reason", key="reason",
)  # fmt: skip
STATE = sockets.STATE._replace(
    about="The state of the packet's socket. It is not known if the kernel has not looked for a "
    "socket yet, or has found none."
)
FLAGS = in_words(
    "FLAGS", "The flags of the TCP segment.", 7, "", flag_names, of="flags", key="flags"
)
PLACE = Field(
    "PLACE", "The function in which the packet was dropped, with the distance from its start and "
    "its module, as in the kernel's own messages. If tcp_drop_reason() dropped it, which does "
    "so for others, this is the function that called it.", key="place", of="function",
    type="string",
)  # fmt: skip
INTERFACE = Field(
    "INTERFACE", "The interface that the packet came in at, or was to go out at. It is not known "
    "if the packet has been put into a queue of a socket.", 10, key="interface", of="device",
    type="string",
)  # fmt: skip
STACK = Field(
    "", "The kernel's functions that led to the drop, the outermost first, with semicolons between "
    "them.", key="kernel_stack", of="callers", raw=stack_lines, type="string", optional=True,
    when=lambda options: options.stack,
)  # fmt: skip
LENGTH = Field(
    "", "The length of the IP packet, with its header; of others, the bytes behind the header of "
    "Ethernet.", key="length", of="bytes", unit="bytes",
)  # fmt: skip
# The members of the event, and of no field's own.
KEPT = (kept("struct drop drop"), kept("char callers[$STACK_BYTES]"))


def add_options(tool: Tool) -> None:
    """Add what these tools have beside their own options."""
    tool.add_argument(
        "-a", "--all", action="store_true",
        help="also packets for which the kernel gives no reason: most of them are no loss",
    )  # fmt: skip
    tool.add_sockets(ports="-P")


class Drops:
    """The parts of the program, and what makes of its records those that are shown.
    ``functions``: see ``described``."""

    def __init__(self, options: argparse.Namespace, functions: str = "") -> None:
        self.places = Places()
        self.settings = {"ALL": options.all}
        self._looked_up = False
        self.values = {"STACK_BYTES": STACK_BYTES * options.stack}
        self.code = {
            "TAKE_STACK": "bpf_get_stack(context, event->callers, sizeof(event->callers), 0);"
            * options.stack
        }
        self._named = partial(described, self.places, only_in(functions), Holders())

    def look_up(self, program: Program) -> None:
        """Tell the program what only the kernel's symbols tell, once."""
        if not self._looked_up:
            self._looked_up = True
            self.places.look_up(program.maps)

    def named(self, records: Iterable[Any]) -> Iterator[Any]:
        """Records with names, and with the ends as text."""
        for record in self._named(records):
            ports = has_ports(record.protocol) and record.family
            laddr = known_address(record.laddr, record.family) if record.family else None
            raddr = known_address(record.raddr, record.family) if record.family else None
            lport, rport = (record.lport, record.rport) if ports else (None, None)
            yield record._replace(
                laddr=laddr, raddr=raddr, lport=lport, rport=rport,
                source=(laddr, lport), destination=(raddr, rport),
                protocol=carried(record.protocol, record.family),
            )  # fmt: skip
