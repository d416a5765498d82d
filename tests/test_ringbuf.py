"""The ring buffer, filled on purpose: order, wrapping around, discarded records, a full one."""
from __future__ import annotations

import ctypes
import os
import select
import struct
from typing import Iterator

import pytest

from pytools.load import loader
from pytools.base import system
from pytools.compile.compiler import Compiler
from pytools.facts.kernel import running
from pytools.load.loader import Loaded
from pytools.read.ringbuf import RingBuffer
from pytools.compile.unrendered import Unrendered
from pytools.compile.template import render

PROG_TEST_RUN = 10  # for raw tracepoints since Linux commit 1b4d60ec162f (v5.10)
PAGE = os.sysconf("SC_PAGE_SIZE")
TEXT = 200

# What the arguments say: a number, the length of the record, what to do.
TEMPLATE = """
struct event {
	u64 number;
	char text[200];
};
EVENTS(events, struct event);

RAW_TRACEPOINT(sched_switch)
{
	u64 length = ctx->args[1];
	struct event event = { .number = ctx->args[0] };
	struct event *kept;

	__builtin_memset(event.text, 'a' + (u8)event.number % 26, sizeof(event.text));
	if (ctx->args[2] == 1) {
		kept = events.ringbuf_reserve(sizeof(struct event));
		if (!kept)
			return 1;
		events.ringbuf_discard(kept, 0);
		return 0;
	}
	if (length > sizeof(event))
		return 2;
	if (length < 8)
		return 3;
	return events.ringbuf_output(&event, length, 0) ? 1 : 0;
}
"""
KEEP, DISCARD = 0, 1


class Ring:
    """A ring of one page, the program that fills it, and its reader."""

    def __init__(self, loaded: Loaded) -> None:
        self.program = loaded.programs[0][1]
        self.reader = RingBuffer(loaded.maps["events"])

    def put(self, number: int, length: int = 208, action: int = KEEP) -> bool:
        """Have the program make a record; whether there was room."""
        arguments = ctypes.create_string_buffer(struct.pack("=3Q", number, length, action))
        attributes = bytearray(
            struct.pack(
                "=IIIIQQIIIIQQ", self.program, 0, 0, 0, 0, 0, 0, 0,
                24, 0, ctypes.addressof(arguments), 0,
            )  # fmt: skip
        )
        system.bpf(PROG_TEST_RUN, attributes)
        (result,) = struct.unpack_from("=I", attributes, 4)
        assert result in (0, 1)
        return bool(result == 0)

    def drain(self) -> list[tuple[int, bytes]]:
        """All that is in the ring."""
        found: list[tuple[int, bytes]] = []
        while True:
            records = self.reader.read()
            if not records:
                return found
            found += [(number, text) for number, text in records]


def text(number: int, length: int = 208) -> tuple[int, bytes]:
    return number, bytes([ord("a") + number % 256 % 26]) * (length - 8)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    with Compiler() as compiler:
        image = compiler.compile(render(Unrendered(TEMPLATE), running()))
    return loader.load(image, {"events": PAGE})


@pytest.fixture
def ring(loaded: Loaded) -> Iterator[Ring]:
    ring = Ring(loaded)
    yield ring
    ring.drain()


@pytest.mark.every_kernel
def test_records_come_in_order_and_once(ring: Ring) -> None:
    for number in range(10):
        assert ring.put(number)
    assert ring.drain() == [text(number) for number in range(10)]
    assert ring.drain() == []


def test_nothing_is_lost_or_repeated_around_the_end(ring: Ring) -> None:
    """Every length from 8 to 208, so that records end at every place of the ring."""
    expected, read = [], []
    for number in range(1000):
        length = 8 + number % 201
        assert ring.put(number, length)
        expected.append(text(number, length))
        if number % 7 == 0:
            read += ring.drain()
    assert read + ring.drain() == expected


def test_discarded_records_are_passed_over(ring: Ring) -> None:
    for number in range(300):
        assert ring.put(number, action=DISCARD if number % 3 else KEEP)
        if number % 5 == 0:
            pass_over = ring.drain()
            assert all(n % 3 == 0 for n, _ in pass_over)
    ring.drain()
    for number in range(5):
        ring.put(number, action=DISCARD)
    assert ring.drain() == []
    assert ring.put(7)
    assert ring.drain() == [text(7)]


@pytest.mark.every_kernel
def test_a_full_ring_refuses_and_has_room_again_when_it_is_read(ring: Ring) -> None:
    fits = 0
    while ring.put(fits):
        fits += 1
    # 216 bytes each, with the header.
    assert PAGE // 216 - 1 <= fits <= PAGE // 216
    assert not ring.put(0)
    assert ring.drain() == [text(number) for number in range(fits)]
    for number in range(fits):
        assert ring.put(number)
    assert len(ring.drain()) == fits


def test_a_second_reader_goes_on_where_the_first_stopped(ring: Ring, loaded: Loaded) -> None:
    ring.put(1)
    assert ring.drain() == [text(1)]
    ring.put(2)
    assert Ring(loaded).drain() == [text(2)]


def test_the_descriptor_is_readable_when_records_are_there(ring: Ring) -> None:
    poll = select.poll()
    poll.register(ring.reader.fd, select.POLLIN)
    assert not poll.poll(0)
    ring.put(1)
    assert poll.poll(10_000)
    ring.drain()
    assert not poll.poll(0)
