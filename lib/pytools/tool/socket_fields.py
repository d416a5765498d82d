"""Fields that tools about sockets and packets have: addresses and ports, namespace, bytes.

Their values are named as in ``struct ends`` (``bpf/ends.h``); addresses are text
(``internet.address``)."""
from __future__ import annotations

from pytools.tool import fields
from pytools.tool.fields import Context, Field, Form, by_context, kept

__all__ = [
    "COMM", "CONTAINER", "DADDR", "DPORT", "ENDS", "IP", "LADDR", "LPORT", "NETNS", "OWNER", "PID",
    "RADDR", "RPORT", "RX", "SADDR", "TX", "WANTED", "known_port", "wide",
]  # fmt: skip

# The members that the fields are of.
ENDS = kept("struct ends ends")
OWNER = kept("struct owner owner")  # bpf/socket_owner.h

PID = fields.PID._replace(
    member="", about="The process that connected or accepted; where that is not known, the one "
    "that closed the session. It is not known for a session that no process has accepted.",
)  # fmt: skip
COMM = fields.COMM._replace(member="", width=12, about="The name of that process's thread.")
CONTAINER = fields.CONTAINER._replace(member="", of="cgroup")
WANTED = 1  # the value of the member "owned" of those that passed the filters of tasks

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


def wide(field: Field, width: int) -> tuple[Field, Field]:
    """A field as it is, and in its place, with the option --wide, as wide as that."""
    return (
        field._replace(when=lambda options: not options.wide),
        field._replace(when=lambda options: options.wide, width=width),
    )


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
    "TX_KB", "The data that was sent, without headers; in KiB for people. What had to be sent again "
    "counts once. It is the socket's own counter bytes_sent, less bytes_retrans.", -5,
    "u64 tx_bytes", key="tx_bytes", people=_kibibytes, unit="bytes", added="sum",
)  # fmt: skip
RX = Field(
    "RX_KB", "The data that was received, without headers; in KiB for people. It is the socket's "
    "own counter bytes_received, which counts the end of the peer's data (FIN) as a byte, without "
    "that byte.", -5,
    "u64 rx_bytes", key="rx_bytes", people=_kibibytes, unit="bytes", added="sum",
)  # fmt: skip
