"""Fields that tools about sockets and packets have: addresses and ports, namespace, bytes.

Their values are named as in ``struct ends`` (``bpf/ends.h``); addresses are text
(``internet.address``)."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.domains.internet import end
from pytools.domains.tcp_states import tcp_state
from pytools.tool import fields
from pytools.tool.fields import TEXT_ONLY, Context, Field, by_context, in_words, kept

if TYPE_CHECKING:
    from typing import Callable

    from pytools.tool.fields import Form

__all__ = [
    "COMM", "CONTAINER", "DADDR", "DESTINATION", "DPORT", "ENDS", "ENDS_FOR_PROGRAMS", "HOLDER",
    "HOLDER_COMM", "IP", "LADDR", "LATENCY", "LOCAL_END", "LPORT", "NETNS", "OUTCOME", "OWNER",
    "PACKET_ENDS", "PID", "PROTOCOL", "RADDR", "REMOTE_END", "RPORT", "RX", "SADDR", "SOURCE",
    "STATE", "THREAD", "TX", "UID", "WANTED", "end_beside", "known_port", "wide",
]  # fmt: skip

# The members that the fields are of.
ENDS = kept("struct ends ends")
OWNER = kept("struct owner owner")  # bpf/socket_owner.h

PID = fields.PID._replace(
    member="", about="The process that connected or accepted, as the first PID namespace numbers "
    "it.",
)  # fmt: skip
COMM = fields.COMM._replace(
    member="", width=12, about="The name of that process: what ps -o comm= shows, up to 15 bytes."
)
THREAD = fields.THREAD._replace(
    member="", of="thread", raw=fields.known,
    about="The name of the thread that connected or accepted, up to 15 bytes.",
)  # fmt: skip
CONTAINER = fields.CONTAINER._replace(member="", of="cgroup")
# Where a packet changes a socket, the process is another (``socket_holders.py``).
HOLDER = fields.PID._replace(
    member="", about="A process that has the socket open, as the first PID namespace numbers it. "
    "It is not known if no process has, or if it has ended.",
)  # fmt: skip
HOLDER_COMM = Field("", "The name of that process, up to 15 bytes.", key="comm", type="string")
STATE = in_words("STATE", "The state of the socket.", 11, "", tcp_state, of="state", key="state")
UID = fields.UID._replace(
    member="",
    about="The number of the user of that process, as the first user namespace has it.",
)
WANTED = 1  # the value of the member "owned" of those that passed the filters of tasks


def known_port(port: int) -> int | None:
    """A port; None of 0, which is none."""
    return port or None


def _protocol(mptcp: int) -> str:
    return "mptcp" if mptcp else "tcp"


PROTOCOL = fields.in_words(
    "PROTO", "mptcp if the connection is a subflow of MPTCP, else tcp. A socket of MPTCP that "
    "talks to a peer without MPTCP may be either.", 5, "u32 mptcp", _protocol, key="protocol",
    option=("--print-protocol",), help="print whether it is MPTCP",
)  # fmt: skip
IP = Field(
    "IP", "The version of the packets: 4 also for an IPv6 socket whose peer is an IPv4 address "
    "(::ffff:192.0.2.1).", 2,
)  # fmt: skip
LADDR = Field(
    "LADDR", "The local address. It is not known if the kernel has not chosen one.", 15,
    of="laddr", type="string",
)  # fmt: skip
LPORT = Field(
    "LPORT", "The local port. It is not known if the kernel has not chosen one.", -5, of="lport",
    people=known_port, raw=known_port, help="print the local port",
)  # fmt: skip
RADDR = Field("RADDR", "The remote address.", 15, of="raddr", type="string")
RPORT = Field("RPORT", "The remote port.", -5, of="rport")
# As bcc's tools about connects call them.
SADDR = LADDR._replace(heading="SADDR")
DADDR = RADDR._replace(heading="DADDR")
DPORT = RPORT._replace(heading="DPORT")
# Of an attempt to open a TCP connection.
LATENCY = Field(
    "LAT(ms)", "The time from the SYN to the peer's answer as the kernel has it, or to the "
    "end of the attempt.", -9, "u64 latency", key="latency_ns", unit="ns",
    people=lambda ns: f"{ns / 1e6:.3f}",
)  # fmt: skip
OUTCOME = (
    Field(
        "ERROR", "The name of the error, as in errno(3); none for a connection. ECANCELED is "
        "an attempt whose socket the program closed before there was an answer. EINPROGRESS is "
        "one that had no answer when the tool ended.", 12, "u32 error", people=fields.error_name,
        raw=fields.error_name, type="string",
    ),
    Field("", "The number of the error; 0 for a connection.", key="errno", of="error"),
)  # fmt: skip
# Those of packets, as programs get them: the source is what struct ends has as the local end.
PACKET_ENDS = (
    Field("", "The source address.", key="saddr", of="laddr", type="string"),
    Field(
        "", "The source port. It is not known if the protocol has no ports.", key="sport",
        of="lport",
    ),
    Field("", "The destination address.", key="daddr", of="raddr", type="string"),
    Field(
        "", "The destination port. It is not known if the protocol has no ports.", key="dport",
        of="rport",
    ),
)  # fmt: skip


END_WIDTH = 21  # an address of IPv4 and a port


def _end(pair: tuple[str | None, int | None]) -> str | None:
    where, port = pair
    return None if where is None else end(where, port, END_WIDTH)


# For people, an address and its port in one: a pair of them. Programs have each alone.
LOCAL_END = Field(
    "LADDR:LPORT", "The local address and port. A long address is cut in the middle.", END_WIDTH,
    key=TEXT_ONLY, of="local", people=_end, type="string",
)  # fmt: skip
REMOTE_END = LOCAL_END._replace(
    heading="RADDR:RPORT", about="The remote address and port, likewise.", of="remote"
)
ENDS_FOR_PROGRAMS = tuple(
    field._replace(heading="", key=field.name) for field in (LADDR, LPORT, RADDR, RPORT)
)
SOURCE = LOCAL_END._replace(
    heading="SOURCE", of="source", about="The source address, with the port where the protocol has "
    "ports. A long address is cut in the middle.",
)  # fmt: skip
DESTINATION = LOCAL_END._replace(
    heading="DESTINATION", of="destination", about="The same of the destination."
)


def wide(field: Field, width: int) -> tuple[Field, Field]:
    """A field as it is, and in its place, with the option --wide, as wide as that."""
    return (
        field._replace(when=lambda options: not options.wide),
        field._replace(when=lambda options: options.wide, width=width),
    )


LEAST_WIDTH = 21  # of an end: an address of IPv4 and a port


def end_beside(columns: int) -> Callable[[Context], Form]:
    """The form of an end (an address and a port), one of two that share what the terminal has
    room for beside so many columns."""

    def form(context: Context) -> Form:
        width = max(LEAST_WIDTH, (context.width - columns) // 2)
        return lambda pair: end(pair[0], pair[1], width)

    return form


def _name_of_namespace(context: Context) -> Form:
    from pytools.domains.network_namespaces import Namespaces

    return Namespaces().name


NETNS = Field(
    "NETNS", "The network namespace: init for that of process 1, else its name if ip or Docker "
    "gave it one, else its number.", 12, of="netns", people=by_context(_name_of_namespace),
    raw=by_context(_name_of_namespace), type="string", option=("--print-netns",),
    help="print the network namespace",
)  # fmt: skip


def _kibibytes(count: int) -> str:
    return f"{count / 1024:.0f}"


TX = Field(
    "TX_KB", "The data that was sent, without headers; in KiB for people. What had to be sent "
    "again counts once. It is the socket's own counter bytes_sent, less bytes_retrans.", -5,
    "u64 tx_bytes", key="tx_bytes", people=_kibibytes, unit="bytes", added="sum",
)  # fmt: skip
RX = Field(
    "RX_KB", "The data that was received, without headers; in KiB for people. It is the socket's "
    "own counter bytes_received, which counts the end of the peer's data (FIN) as a byte, less "
    "that byte.", -5,
    "u64 rx_bytes", key="rx_bytes", people=_kibibytes, unit="bytes", added="sum",
)  # fmt: skip
