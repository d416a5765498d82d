"""Words for addresses, ends and protocols."""
from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton

import pytest

from pytools.domains.internet import address, end, has_ports, known_address, protocol_name

pytestmark = pytest.mark.rendering


@pytest.mark.parametrize(
    "text, family",
    [
        ("127.0.0.1", AF_INET),
        ("::1", AF_INET6),
        ("2001:db8::", AF_INET6),
        ("::ffff:192.0.2.1", AF_INET6),
    ],
)
def test_an_address_as_people_write_it(text: str, family: int) -> None:
    data = inet_pton(family, text).ljust(16, b"\0")
    assert address(data, family) == known_address(data, family) == text


def test_all_zeros_are_an_address_only_where_one_is_known() -> None:
    assert address(bytes(16), AF_INET) is None and address(bytes(16), AF_INET6) is None
    assert known_address(bytes(16), AF_INET) == "0.0.0.0"
    assert known_address(bytes(16), AF_INET6) == "::"


@pytest.mark.parametrize(
    "where, port, width, text",
    [
        ("192.0.2.1", 443, 21, "192.0.2.1:443"),
        ("192.0.2.1", 0, 21, "192.0.2.1:0"),
        ("192.0.2.1", None, 21, "192.0.2.1"),
        ("255.255.255.255", 65535, 21, "255.255.255.255:65535"),
        ("2001:db8::1", None, 21, "2001:db8::1"),
        ("2001:db8::1", 443, 21, "[2001:db8::1]:443"),
        ("2001:db8:1:2:3:4:5:6", None, 21, "2001:db8:1:2:3:4:5:6"),
        ("2001:db8:1:2:3:4:5:6", 443, 21, "[2001:db8..4:5:6]:443"),
        ("2001:db8:1:2:3:4:5:6", 443, 40, "[2001:db8:1:2:3:4:5:6]:443"),
    ],
)
def test_an_end_is_cut_in_the_middle_where_it_is_too_long(
    where: str, port: int | None, width: int, text: str
) -> None:
    assert end(where, port, width) == text
    assert len(text) <= width


def test_protocols_by_name_or_number() -> None:
    assert [protocol_name(number) for number in (6, 17, 58, 253)] == ["tcp", "udp", "icmp6", "253"]
    assert [has_ports(number) for number in (6, 17, 132, 1, 58, 253)] == [True] * 3 + [False] * 3
