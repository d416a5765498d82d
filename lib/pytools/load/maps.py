"""BPF maps: create, read, write, clear.

Sizes, batch commands and the order of per-CPU values follow
kernel/bpf/syscall.c; batches exist since Linux commit cb4d03ab499d (v5.6), for
per-CPU arrays since f008d732ab18 (v5.13).
"""
from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from pytools.base.annotations import TYPE_CHECKING
from pytools.base import system
from pytools.base.errors import Failure, error_text
from pytools.compile.image import MapSpec
from pytools.facts.kernel import possible_cpus
from pytools.compile.layout import Layout

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Sequence


__all__ = ["Map", "create"]

(MAP_CREATE, LOOKUP, UPDATE, DELETE, NEXT_KEY) = range(5)
LOOKUP_BATCH, DELETE_BATCH = 24, 27

HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, STACK_TRACE = 1, 2, 5, 6, 7
LRU_HASH, LRU_PERCPU_HASH, ARRAY_OF_MAPS, RINGBUF = 9, 10, 12, 27
_PER_CPU = (PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH)
_ARRAYS = (ARRAY, PERCPU_ARRAY)

NAME_BYTES = 15
BATCH = 4096  # keys a call; the kernel is asked again for the rest


class Map:
    """A map in the kernel. Keys and values are ints, bytes or tuples, by the C
    types that the template gave them; those of a per-CPU map lists of values,
    one a possible CPU."""

    def __init__(self, fd: int, spec: MapSpec) -> None:
        self.fd = fd
        self.spec = spec
        self.per_cpu = len(possible_cpus()) if spec.type in _PER_CPU else 0
        self.cpu_stride = stride = spec.value_size
        if self.per_cpu:
            self.cpu_stride = stride + 7 & ~7
            stride = self.cpu_stride * self.per_cpu
        self._stride = stride
        self._batches = True
        self._key = self._value = Layout("char")
        if spec.key is not None:
            self._key = Layout(spec.key, spec.key_size)
        if spec.value is not None and spec.type != STACK_TRACE:
            self._value = Layout(spec.value, spec.value_size)

    def close(self) -> None:
        os.close(self.fd)

    def items(self) -> list[tuple[Any, Any]]:
        """All (key, value) pairs."""
        return list(self._decode(self._raw_items()))

    def drain(self) -> list[tuple[Any, Any]]:
        """All (key, value) pairs of a hash map, which is left empty. What a program adds
        to a value meanwhile may be lost: counts are for ``generations``."""
        return self.take(lambda key: True)

    def take(self, wanted: Callable[[Any], Any]) -> list[tuple[Any, Any]]:
        """The (key, value) pairs of a hash map whose keys are wanted, which are removed."""
        found, taken = [], []
        for raw_key, raw_value in self._raw_items():
            key = self._key.value(raw_key)
            if wanted(key):
                found.append((key, self._decode_value(raw_value)))
                taken.append(raw_key)
        self._remove(taken)
        return found

    # As bytes: of a per-CPU map a value has those of all CPUs, ``cpu_stride`` bytes each.

    def raw(self) -> list[tuple[bytes, bytes]]:
        """All keys and values."""
        return list(self._raw_items())

    def each_raw(self) -> Iterator[tuple[bytes, bytes]]:
        """The same, one after the other: of a map that is not to be in memory at once."""
        return self._raw_items()

    def take_raw(self, wanted: Callable[[bytes], bool]) -> list[tuple[bytes, bytes]]:
        """The keys of a hash map that are wanted, and their values, which are removed."""
        found = [pair for pair in self._raw_items() if wanted(pair[0])]
        self._remove([key for key, _ in found])
        return found

    def set(self, key: bytes, value: bytes) -> None:
        """Set the value of a key. Raises Failure."""
        key_buffer = ctypes.create_string_buffer(key, len(key))
        value_buffer = ctypes.create_string_buffer(value, len(value))
        try:
            self._element(UPDATE, key_buffer, ctypes.addressof(value_buffer))
        except OSError as error:
            raise Failure(f"cannot write a BPF map: {error_text(error.errno or 0)}") from None

    def values(self) -> list[Any]:
        """The values of an array map, in order."""
        return [value for _, value in self.items()]

    def named_values(self) -> list[dict[str, Any]]:
        """The values of a map of structs, each by the names of its members; of a struct in it,
        the members count by their own names."""
        names = [name.rpartition(".")[2] for name in self._value.names]
        return [dict(zip(names, value)) for _, value in self.items()]

    def total(self, index: int = 0) -> int:
        """An entry of a (per-CPU) array of counters, added up over the CPUs."""
        value = self._decode_value(self._lookup(struct.pack("=I", index)) or bytes(self._stride))
        return int(sum(value) if self.per_cpu else value)

    def add(self, key: int) -> None:
        """Put a key, a u32, into a hash map whose values say nothing."""
        self._update(key, bytes(self._stride))

    def put(self, key: int, value: int) -> None:
        """Set the value of a key, a u32, to a number."""
        self._update(key, value.to_bytes(self._stride, sys.byteorder))

    def get(self, key: bytes) -> Any:
        """The value of a key, given as its bytes; None where there is none."""
        data = self._lookup(key)
        return None if data is None else self._decode_value(data)

    def frames(self, stack_id: int) -> list[int]:
        """The instruction addresses of a stack trace, innermost first; empty
        where there is no such stack (a negative id is the kernel's errno)."""
        data = self._lookup(struct.pack("=i", stack_id)) if stack_id >= 0 else None
        addresses = struct.unpack(f"={len(data) // 8}Q", data) if data else ()
        return [address for address in addresses if address]

    # Bytes.

    def _update(self, key: int, value: bytes) -> None:
        self.set(struct.pack("=I", key), value)

    def _lookup(self, key: bytes) -> bytes | None:
        value = ctypes.create_string_buffer(self._stride)
        key_buffer = ctypes.create_string_buffer(key, len(key))
        try:
            self._element(LOOKUP, key_buffer, ctypes.addressof(value))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return value.raw

    def _element(self, command: int, key: Any, value: int) -> None:
        address = ctypes.addressof(key) if key is not None else 0
        system.bpf(command, bytearray(struct.pack("=IxxxxQQQ", self.fd, address, value, 0)))

    def _raw_items(self) -> Iterator[tuple[bytes, bytes]]:
        if self._batches:
            try:
                yield from self._batched()
                return
            except OSError as error:
                # ENOTSUPP, which has no name in user space, for a map type
                # without batches; EINVAL before v5.6.
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, 524):
                    raise Failure(
                        f"cannot read a BPF map: {error_text(error.errno or 0)}"
                    ) from None
                self._batches = False
        yield from self._one_by_one()

    def _batched(self) -> Iterator[tuple[bytes, bytes]]:
        key_size = self.spec.key_size
        room = min(BATCH, self.spec.max_entries)
        # A hash map hands its keys out in buckets, which do not fit into a
        # room that is smaller than the fullest of them.
        room = max(room, 64)
        # The position is a u32 or a key, whichever is longer.
        position = ctypes.create_string_buffer(max(4, key_size))
        first = True
        while True:
            keys = ctypes.create_string_buffer(room * key_size)
            values = ctypes.create_string_buffer(room * self._stride)
            begin = None if first else position
            attributes = self._batch_attributes(begin, position, keys, values, room)
            more = True
            try:
                system.bpf(LOOKUP_BATCH, attributes)
            except OSError as error:
                if error.errno == errno.ENOSPC:  # one bucket is larger than the room
                    room *= 2
                    continue
                if error.errno != errno.ENOENT:
                    raise
                more = False
            (count,) = struct.unpack_from("=I", attributes, 32)
            raw_keys, raw_values = keys.raw, values.raw
            for i in range(count):
                yield (
                    raw_keys[i * key_size : (i + 1) * key_size],
                    raw_values[i * self._stride : (i + 1) * self._stride],
                )
            if not more:
                return
            first = False

    def _one_by_one(self) -> Iterator[tuple[bytes, bytes]]:
        for key in self.raw_keys():
            value = self._lookup(key)
            if value is not None:
                yield key, value

    def raw_keys(self) -> list[bytes]:
        """The keys, each once, as bytes."""
        keys: list[Any] = []
        key = None
        while True:
            following = ctypes.create_string_buffer(self.spec.key_size)
            try:
                self._element(NEXT_KEY, key, ctypes.addressof(following))
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise Failure(
                        f"cannot read a BPF map: {error_text(error.errno or 0)}"
                    ) from None
                break
            keys.append(following)
            key = following
            # A map that changes while it is walked may begin again.
            if len(keys) > self.spec.max_entries:
                break
        return list(dict.fromkeys(key.raw for key in keys))

    def _remove(self, keys: Sequence[bytes]) -> None:
        """Remove keys that are there."""
        if self._batches and keys:
            buffer = ctypes.create_string_buffer(b"".join(keys), len(keys) * self.spec.key_size)
            attributes = self._batch_attributes(None, None, buffer, None, len(keys))
            try:
                system.bpf(DELETE_BATCH, attributes)
            except OSError as error:
                raise Failure(f"cannot clear a BPF map: {error_text(error.errno or 0)}") from None
            return
        for key in keys:
            try:
                self._element(DELETE, ctypes.create_string_buffer(key, len(key)), 0)
            except OSError:
                pass  # gone meanwhile

    def _batch_attributes(
        self, begin: Any, end: Any, keys: Any, values: Any, count: int
    ) -> bytearray:
        """Those of a command for many keys: buffers, or None."""
        addresses = [0 if b is None else ctypes.addressof(b) for b in (begin, end, keys, values)]
        return bytearray(struct.pack("=QQQQIIQQ", *addresses, count, self.fd, 0, 0))

    # Values.

    def _decode(self, pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[Any, Any]]:
        for key, value in pairs:
            yield self._key.value(key), self._decode_value(value)

    def _decode_value(self, data: bytes) -> Any:
        if not self.per_cpu:
            return self._value.value(data)
        return [self._value.value(data, cpu * self.cpu_stride) for cpu in range(self.per_cpu)]


def create(spec: MapSpec, inner: int = 0) -> Map:
    """Create the map; raises OSError. ``inner`` is a map like those that a map of maps
    is to have."""
    attributes = struct.pack(
        "=IIIIIII15sx", spec.type, spec.key_size, spec.value_size, spec.max_entries,
        spec.flags, inner, 0, spec.name.encode()[:NAME_BYTES],
    )  # fmt: skip
    return Map(system.bpf(MAP_CREATE, bytearray(attributes)), spec)
