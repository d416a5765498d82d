"""The page cache: what /proc/meminfo says of it."""
from __future__ import annotations


__all__ = ["cached_bytes"]


def cached_bytes() -> tuple[int, int]:
    """The bytes of the cache that belong to block devices themselves, and those that belong to
    files: ``Buffers`` and ``Cached`` of /proc/meminfo."""
    with open("/proc/meminfo") as file:
        found = dict(line.split(":") for line in file)
    buffers, cached = (int(found[name].split()[0]) << 10 for name in ("Buffers", "Cached"))
    return buffers, cached
