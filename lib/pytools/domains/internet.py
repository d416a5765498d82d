"""Words for what an IP packet has in it: addresses, ends, protocols."""
from __future__ import annotations

from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop

__all__ = ["address", "end", "ethernet_name", "has_ports", "known_address", "protocol_name"]

# The names of those protocols that one meets (RFC 5237), by number.
_PROTOCOLS = {
    1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6", 47: "gre",
    50: "esp", 51: "ah", 58: "icmp6", 89: "ospf", 103: "pim", 112: "vrrp", 132: "sctp",
    136: "udplite",
}  # fmt: skip
# The names of what else one meets on Ethernet (IANA, IEEE 802 numbers), by type; of 802.2, which
# has a length in the type's place, it is the kernel's own number (linux/if_ether.h).
_ETHERNET = {
    0x0004: "llc", 0x0806: "arp", 0x8035: "rarp", 0x8100: "vlan", 0x8809: "slow", 0x8847: "mpls",
    0x8864: "pppoe", 0x888E: "eapol", 0x88CC: "lldp", 0x88E5: "macsec", 0x88F7: "ptp",
}  # fmt: skip
_WITH_PORTS = {6, 17, 33, 132, 136}


@lru_cache(4096)  # events have the same ones again and again
def address(data: bytes, family: int) -> str | None:
    """The text of an address in ``struct ends`` (``bpf/socket.h``); None where it is
    all zeros: not known.

    >>> address(bytes([127, 0, 0, 1]) + bytes(12), AF_INET)
    '127.0.0.1'
    """
    if not any(data):
        return None
    return inet_ntop(AF_INET6, data) if family == AF_INET6 else inet_ntop(AF_INET, data[:4])


def known_address(data: bytes, family: int) -> str:
    """The same where it is known, and all zeros are an address, too.

    >>> known_address(bytes(16), AF_INET)
    '0.0.0.0'
    """
    return address(data, family) or ("::" if family == AF_INET6 else "0.0.0.0")


def protocol_name(number: int) -> str:
    """The name of the protocol that an IP packet carries; its number where it has none here.

    >>> protocol_name(17), protocol_name(253)
    ('udp', '253')
    """
    return _PROTOCOLS.get(number, str(number))


def ethernet_name(number: int) -> str:
    """The name of an Ethernet type; its number in hexadecimal where it has none here, and where
    the packet is one of IP that can't be taken apart.

    >>> ethernet_name(0x806), ethernet_name(0x88b5), ethernet_name(0x800)
    ('arp', '0x88b5', '0x0800')
    """
    return _ETHERNET.get(number, f"0x{number:04x}")


def has_ports(number: int) -> bool:
    """Whether that protocol has ports, as the first four bytes of its header."""
    return number in _WITH_PORTS


def end(where: str, port: int | None, width: int) -> str:
    """An address and its port, if it has one, in at most ``width`` characters: the address is
    cut in the middle if need be.

    >>> end("2001:db8:1:2:3:4:5:6", 443, 21)
    '[2001:db8..4:5:6]:443'
    """
    behind = "" if port is None else f":{port}"
    if ":" in where and behind:
        where, behind = f"[{where}", f"]{behind}"
    room = width - len(behind)
    if len(where) > room:
        where = where[: room - room // 3 - 2] + ".." + where[-(room // 3) :]
    return where + behind
