"""Maps that others have made and pinned in a BPF file system (bpf(2), BPF_OBJ_GET)."""
from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from pytools.base import system
from pytools.base.errors import Failure
from pytools.compile.image import MapSpec
from pytools.load import maps
from pytools.load.loader import OBJ_GET_INFO_BY_FD, refusal

__all__ = ["keys", "open_hash"]

OBJ_GET = 7
BPF_F_RDONLY = 1 << 3  # for this process: what is in the map is its owner's
HASHES = (maps.HASH, maps.PERCPU_HASH, maps.LRU_HASH, maps.LRU_PERCPU_HASH)
MOST_KEYS = 1 << 20
INFO_BYTES = 16  # of struct bpf_map_info: type, id, key_size, value_size


def open_hash(path: str, key_bytes: int) -> int:
    """A descriptor of the hash map that is pinned at a path, if its keys have so many bytes; raises
    Failure for anything else."""
    # Nothing is opened but what is in a BPF file system: the kernel refuses all else by its type.
    if "\0" in path:
        raise Failure(f"{path!r} is no path")
    name = ctypes.create_string_buffer(os.fsencode(path))
    try:
        attributes = struct.pack("=QII", ctypes.addressof(name), 0, BPF_F_RDONLY)
        descriptor = system.bpf(OBJ_GET, bytearray(attributes))
    except OSError as error:
        if error.errno == errno.EPERM or error.errno == errno.EACCES and os.geteuid():
            raise refusal(f"open the pinned map {path}", error) from None
        if error.errno == errno.EACCES:
            raise Failure(f"{path} is no pinned map: it is not in a BPF file system") from None
        raise Failure(f"cannot open the pinned map {path}: {error.strerror}") from None
    try:
        _check(descriptor, path, key_bytes)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(descriptor: int, path: str, key_bytes: int) -> None:
    # Programs and links are pinned, too.
    what = os.readlink(f"/proc/self/fd/{descriptor}")
    if what != "anon_inode:bpf-map":
        raise Failure(f"{path} is no map, but {what.rpartition(':')[2]}")
    info = ctypes.create_string_buffer(INFO_BYTES)
    attributes = struct.pack("=IIQ", descriptor, len(info), ctypes.addressof(info))
    system.bpf(OBJ_GET_INFO_BY_FD, bytearray(attributes))
    kind, _, key_size, _ = struct.unpack("=IIII", info.raw)
    if kind not in HASHES:
        raise Failure(f"the map {path} is no hash map (its type is {kind})")
    if key_size != key_bytes:
        raise Failure(f"the map {path} has keys of {key_size} bytes, not {key_bytes}")


def keys(descriptor: int) -> list[int]:
    """The keys of such a map, as numbers."""
    spec = MapSpec("", maps.HASH, 8, 0, MOST_KEYS, 0, None, None)
    return [int.from_bytes(key, sys.byteorder) for key in maps.Map(descriptor, spec).raw_keys()]
