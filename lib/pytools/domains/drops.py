"""Packets that the kernel drops: the names of the reasons, and where it is done (bpf/drop.h)."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.domains.callers import UNKNOWN, addresses_of
from pytools.domains.internet import ethernet_name, protocol_name
from pytools.domains.socket_holders import Holders
from pytools.facts.differences import tells_drop_reasons
from pytools.facts.kernel import running
from pytools.read.symbols import KernelTable, Symbol

if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator, Mapping

    from pytools.facts.btf import Btf
    from pytools.facts.kernel import Kernel
    from pytools.load.maps import Map

__all__ = ["Places", "Reasons", "carried", "described", "only_in"]

TYPES = "/sys/kernel/btf"  # of modules, too
# The function that frees a packet for most others of TCP, since Linux v5.18.
FREES_FOR_OTHERS = "tcp_drop_reason"
MOST_BYTES = 1024  # of that function
# Reasons of which the upper 16 bits are the number of a subsystem (enum skb_drop_reason_subsys of
# the kernel's include/net/dropreason.h): by its name there, or how that begins, the module and the
# enum that have them.
SUBSYSTEM_BITS = 16
_SUBSYSTEMS = {
    "QDISC": ("", "qdisc_drop_reason"),
    "OPENVSWITCH": ("openvswitch", "ovs_drop_reason"),
    "MAC80211": ("mac80211", "mac80211_drop_reason"),
}


def carried(protocol: int, family: int) -> str:
    """The name of what a packet carries: the transport protocol of IP, else the Ethernet type.

    >>> carried(6, 2), carried(0x806, 0)
    ('tcp', 'arp')
    """
    return protocol_name(protocol) if family else ethernet_name(protocol)


class Reasons:
    """The names of the numbers of enum skb_drop_reason in the kernel that runs, without what they
    all begin with: they differ from kernel to kernel."""

    def __init__(self, kernel: Kernel | None = None) -> None:
        self._kernel = kernel or running()
        self._names: dict[int, str] | None = None

    def name(self, number: int) -> str | None:
        """The name of a reason; its number where it has none; None for 0: not told."""
        if not number:
            return None
        if self._names is None:
            self._names = {
                number: name.replace("SKB_DROP_REASON_", "").replace("SKB_", "")
                for number, name in self._kernel.btf.enumeration("skb_drop_reason").items()
            }
        if number not in self._names:
            self._names[number] = self._of_subsystem(number)
        return self._names[number]

    def _of_subsystem(self, number: int) -> str:
        btf, subsystem = self._kernel.btf, number >> SUBSYSTEM_BITS
        found = btf.enumeration("skb_drop_reason_subsys").get(subsystem, "")
        name = found.replace("SKB_DROP_REASON_SUBSYS_", "") or str(subsystem)
        for beginning, (module, enum) in _SUBSYSTEMS.items():
            if name.startswith(beginning):
                types = _of_module(btf, module) if module else btf
                label = types.enumeration(enum).get(number) if types else None
                if label:
                    return label
        return f"{name}:{number & (1 << SUBSYSTEM_BITS) - 1}"


def _of_module(btf: Btf, module: str) -> Btf | None:
    """The types of a module; None where it is not loaded, or its types can't be read."""
    try:
        with open(f"{TYPES}/{module}", "rb") as file:
            return btf.with_module(file.read(), module)
    except (OSError, Failure):
        return None


class Places:
    """The functions in which packets are freed, by the instruction behind the call."""

    def __init__(self) -> None:
        self._table = KernelTable()

    def look_up(self, maps: Mapping[str, Map]) -> None:
        """Tell the program which function frees packets for others. To read the kernel's symbols
        takes a tenth of a second or more."""
        start, length = self._table.address(FREES_FOR_OTHERS), 0
        if start:
            while length < MOST_BYTES and self._function(start + length) == FREES_FOR_OTHERS:
                length += 16  # to which functions are aligned
            maps["frees_for_others"].put(0, start)
            maps["frees_for_others"].put(1, length)

    def _function(self, address: int) -> str:
        return (self._table.symbol(address) or Symbol("")).name

    def function(self, place: int) -> str:
        """The name of the function; empty where the kernel hides it."""
        return self._function(place - 1)

    def place(self, place: int, callers: bytes) -> int:
        """The same place, but that of the caller, where a function frees packets for others, and
        the program was not told so yet."""
        addresses = addresses_of(callers)
        if self.function(place) == FREES_FOR_OTHERS and place in addresses[:-1]:
            return addresses[addresses.index(place) + 1]
        return place

    def name(self, place: int) -> str | None:
        """The same with the distance from its start, as in the kernel's own messages, and with its
        module: ``tcp_v4_rcv+0x1a2``. None where the kernel hides it."""
        symbol = self._table.symbol(place - 1)
        if symbol is None:
            return None
        return f"{symbol.name}+{symbol.offset + 1:#x} {symbol.module}".rstrip()

    def callers(self, data: bytes, place: int) -> tuple[str, ...]:
        """The functions that led to a place, that of the place first, with their distances, of what
        a program has put into an event (bpf_get_stack): without those of the tracing itself."""
        addresses = addresses_of(data)
        if place in addresses:
            addresses = addresses[addresses.index(place) :]
        return tuple(self.name(address) or UNKNOWN for address in addresses)


def described(
    places: Places, functions: str, holders: Holders, records: Iterable[Any]
) -> Iterator[Any]:
    """The records of drops with the names of places, the callers, and the process that has the
    socket open. Where the kernel tells no reason, those are left out that are not in functions
    with names that begin with ``functions``."""
    found = list(records)
    if functions:
        found = [record for record in found if places.function(record.place).startswith(functions)]
    for record in holders.added(found):
        place = places.place(record.place, record.callers or b"")
        yield record._replace(
            place=place,
            function=places.name(place),
            callers=places.callers(record.callers or b"", place),
        )


def only_in(functions: str) -> str:
    """The same ``functions`` where the kernel that runs tells no reasons, else nothing."""
    return "" if tells_drop_reasons(running()) else functions
