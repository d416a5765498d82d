"""Maps and the ring buffer of the running kernel, read in every way there is."""
from __future__ import annotations

import errno
import os
import struct
from typing import Any, Callable, Iterator

import pytest

from pytools.facts import kernel
from pytools.load import loader, maps
from pytools.base import system
from pytools.base.errors import Failure
from pytools.compile.image import MapSpec
from pytools.read.growth import Growth
from pytools.load.maps import Map
from support import EMULATED

PAGE = os.sysconf("SC_PAGE_SIZE")
# Filling a map takes a system call an element, and an emulated machine a minute
# for all of these: there batches are smaller, and as many.
BATCH = 256 if EMULATED else maps.BATCH
MANY = 3 * BATCH + 77


def spec(
    kind: int, entries: int, key: Any = "unsigned int", value: Any = "unsigned long"
) -> MapSpec:
    key_size = 4 if key == "unsigned int" else 8
    return MapSpec("test", kind, key_size, 8, entries, 0, key, value)


@pytest.fixture
def create() -> Iterator[Callable[..., Map]]:
    loader.raise_memory_limit()
    made = []

    def make(*arguments: Any, **named: Any) -> Map:
        made.append(maps.create(spec(*arguments, **named)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def update(target: Map, key: bytes, value: bytes) -> None:
    import ctypes

    key_buffer = ctypes.create_string_buffer(key, len(key))
    value_buffer = ctypes.create_string_buffer(value, len(value))
    target._element(maps.UPDATE, key_buffer, ctypes.addressof(value_buffer))


def fill(target: Map, count: int) -> dict[int, int]:
    """Keys 0, 3, 6, ... with values from the key; per CPU, key + CPU."""
    wanted = {}
    for number in range(count):
        key = number if target.spec.type in maps._ARRAYS else 3 * number
        copies = range(max(target.per_cpu, 1))
        update(target, struct.pack("=I", key), b"".join(struct.pack("=Q", key + c) for c in copies))
        wanted[key] = key
    return wanted


HASHES = [maps.HASH, maps.PERCPU_HASH, maps.LRU_HASH, maps.LRU_PERCPU_HASH]
KINDS = [*HASHES, maps.ARRAY, maps.PERCPU_ARRAY]
COUNTS = [0, 1, 5, BATCH, MANY]


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "BATCH", BATCH)


@pytest.mark.usefixtures("batch")
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_single_lookups_give_every_pair_once(
    kind: int, count: int, create: Callable[..., Map]
) -> None:
    array = kind in maps._ARRAYS
    # LRU maps forget before they are full: give them room.
    entries = max(count, 1) if array else max(8 * count, 64)
    target = create(kind, entries)
    wanted = fill(target, count)
    if array and not count:
        wanted = {0: 0}
    batched = target.items()
    target._batches = False
    single = target.items()
    for pairs in (batched, single):
        assert len(pairs) == len(wanted)
        assert dict(pairs).keys() == wanted.keys()
        for key, value in pairs:
            if not target.per_cpu:
                assert value == key
            elif count:
                assert value == [key + cpu for cpu in range(target.per_cpu)]
    assert sorted(batched) == sorted(single)


@pytest.mark.usefixtures("batch")
@pytest.mark.parametrize("batches", [True, False])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", HASHES)
def test_a_drained_map_is_empty(
    kind: int, count: int, batches: bool, create: Callable[..., Map]
) -> None:
    target = create(kind, max(8 * count, 64))
    wanted = fill(target, count)
    target._batches = batches
    assert dict(target.drain()).keys() == wanted.keys()
    assert target.items() == []
    again = fill(target, min(count, 3))
    assert dict(target.drain()).keys() == again.keys()


@pytest.mark.usefixtures("batch")
@pytest.mark.parametrize("batches", [True, False])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", [maps.HASH, maps.PERCPU_HASH])
def test_what_is_taken_is_gone_and_the_rest_is_not(
    kind: int, count: int, batches: bool, create: Callable[..., Map]
) -> None:
    target = create(kind, max(count, 1))
    filled = fill(target, count).keys()
    target._batches = batches
    taken = target.take(lambda key: key % 2 == 1)
    assert sorted(key for key, _ in taken) == [key for key in filled if key % 2]
    for key, value in taken:
        assert value == ([key + cpu for cpu in range(target.per_cpu)] if target.per_cpu else key)
    assert sorted(key for key, _ in target.items()) == [key for key in filled if key % 2 == 0]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, 524])
def test_a_kernel_without_batches_is_read_one_by_one(
    code: int, create: Callable[..., Map], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = create(maps.HASH, 100)
    wanted = fill(target, 10)
    real = system.bpf

    def bpf(command: int, attributes: bytearray) -> int:
        if command in (maps.LOOKUP_BATCH, maps.DELETE_BATCH):
            raise OSError(code, "no batches")
        return real(command, attributes)

    monkeypatch.setattr(system, "bpf", bpf)
    assert dict(target.items()) == wanted
    assert dict(target.drain()) == wanted
    assert target.items() == []


def test_a_read_that_fails_is_a_failure(
    create: Callable[..., Map], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = create(maps.HASH, 10)

    def bpf(command: int, attributes: bytearray) -> int:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(system, "bpf", bpf)
    with pytest.raises(Failure, match="cannot read a BPF map: EPERM"):
        target.items()


@pytest.mark.every_kernel
def test_a_crowded_bucket_gets_more_room(
    create: Callable[..., Map], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel whose buckets hold more than a batch says ENOSPC."""
    target = create(maps.HASH, 1000)
    wanted = fill(target, 500)
    real, rooms = system.bpf, []

    def bpf(command: int, attributes: bytearray) -> int:
        if command == maps.LOOKUP_BATCH:
            (room,) = struct.unpack_from("=I", attributes, 32)
            rooms.append(room)
            if room < 3000:
                raise OSError(errno.ENOSPC, "room")
        return real(command, attributes)

    monkeypatch.setattr(system, "bpf", bpf)
    assert dict(target.items()) == wanted
    assert rooms == [1000, 2000, 4000]


def test_keys_and_values_are_what_the_c_types_say(create: Callable[..., Map]) -> None:
    key = ["key", [["pid", "int"], ["kind", "unsigned char"], ["__pad_2", "char", [3]]], "struct"]
    target = create(maps.HASH, 4, key=key, value="long long")
    update(target, struct.pack("=iB3x", -7, 200), struct.pack("=q", -(2**40)))
    assert target.items() == [((-7, 200), -(2**40))]


@pytest.mark.every_kernel
@pytest.mark.parametrize("kind", [maps.ARRAY, maps.PERCPU_ARRAY])
def test_total_adds_up_the_cpus(kind: int, create: Callable[..., Map]) -> None:
    target = create(kind, 3)
    fill(target, 3)
    cpus = len(kernel.possible_cpus()) if kind == maps.PERCPU_ARRAY else 1
    assert target.total(2) == sum(2 + cpu for cpu in range(cpus))
    assert [target.total(index) for index in range(3)] == [
        sum(index + cpu for cpu in range(cpus)) for index in range(3)
    ]
    assert len(target.values()) == 3


def test_growth_counts_what_came_since_and_nothing_twice(create: Callable[..., Map]) -> None:
    target = create(maps.HASH, 10)
    growth = Growth(target)
    assert growth.since_last() == {}
    one, two = struct.pack("=I", 1), struct.pack("=I", 2)
    update(target, one, struct.pack("=Q", 5))
    assert growth.since_last() == {1: 5}
    assert growth.since_last() == {}
    update(target, one, struct.pack("=Q", 8))
    update(target, two, struct.pack("=Q", 1))
    assert growth.since_last() == {1: 3, 2: 1}


@pytest.mark.every_kernel
def test_a_stack_that_is_not_there_has_no_frames(create: Callable[..., Map]) -> None:
    target = maps.create(MapSpec("stacks", maps.STACK_TRACE, 4, 127 * 8, 16, 0, None, None))
    try:
        assert target.frames(-errno.EFAULT) == []
        assert target.frames(5) == []
    finally:
        target.close()


@pytest.mark.parametrize(
    "text, cpus",
    [
        ("0\n", [0]), ("0-3\n", [0, 1, 2, 3]), ("0-2,7\n", [0, 1, 2, 7]), ("", []), ("\n", []),
        ("1,3,5-6,100-101\n", [1, 3, 5, 6, 100, 101]),
    ],
)  # fmt: skip
def test_cpu_lists_may_have_holes(text: str, cpus: list[int]) -> None:
    assert kernel.parse_cpu_list(text) == cpus


def test_online_cpus_are_possible_cpus() -> None:
    assert set(kernel.online_cpus()) <= set(kernel.possible_cpus())
    assert len(kernel.online_cpus()) == os.sysconf("SC_NPROCESSORS_ONLN")
