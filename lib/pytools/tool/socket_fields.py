"""Fields that tools about sockets and packets have: addresses and ports, namespace, bytes.

Their values are named as in ``struct ends`` (``bpf/ends.h``); addresses are text
(``internet.address``)."""
from __future__ import annotations

from pytools.tool.fields import Context, Field, Form, by_context, kept

__all__ = [
    "DADDR", "DPORT", "ENDS", "IP", "LADDR", "LPORT", "NETNS", "RADDR", "RPORT", "RX", "SADDR",
    "TX", "known_port",
]  # fmt: skip

ENDS = kept("struct ends ends")

IP = Field(
    "IP", "The version of the packets: 4 also for an IPv6 socket whose peer is an IPv4 address "
    "(::ffff:192.0.2.1).", 2,
)  # fmt: skip
LADDR = Field("LADDR", "The local address.", 15, of="laddr", type="string")
LPORT = Field("LPORT", "The local port.", -5, of="lport")
RADDR = Field("RADDR", "The remote address.", 15, of="raddr", type="string")
RPORT = Field("RPORT", "The remote port.", -5, of="rport")
# The same by the names that packets have for them.
SADDR = LADDR._replace(heading="SADDR", about="The source address.")
DADDR = RADDR._replace(heading="DADDR", about="The destination address.")
DPORT = RPORT._replace(heading="DPORT", about="The destination port.")


def known_port(port: int) -> int | None:
    """The form of a port that the kernel may not have chosen yet."""
    return port or None


def _name_of_namespace(context: Context) -> Form:
    from pytools.domains.network_namespaces import Namespaces

    return Namespaces().name


NETNS = Field(
    "NETNS", "The network namespace: init for that of process 1, else the name that ip-netns(8) or "
    "Docker gave it, else its number.", 12, of="netns", people=by_context(_name_of_namespace),
    raw=by_context(_name_of_namespace), type="string", help="print the network namespace",
)  # fmt: skip


def _kibibytes(count: int) -> str:
    return f"{count / 1024:.0f}"


TX = Field(
    "TX_KB", "The data that was sent, in KiB for people.", -5, "u64 tx_bytes", key="tx_bytes",
    people=_kibibytes, unit="bytes", added="sum",
)  # fmt: skip
RX = Field(
    "RX_KB", "The data that was received, in KiB for people.", -5, "u64 rx_bytes", key="rx_bytes",
    people=_kibibytes, unit="bytes", added="sum",
)  # fmt: skip
