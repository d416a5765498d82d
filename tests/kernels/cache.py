"""Built things on disk, found again by what they were built from, and trusted only when whole.

An entry is a directory ``KIND-NAME-KEY``; the key is a hash of everything that it is built from. It
is made in a directory of its own and given its name last: an entry that has its name was finished.
``manifest.json`` in it holds size and hash of each file, and `load` trusts no entry that differs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

from debian import ImageError

__all__ = ["cache_directory", "entry", "key", "load"]

# To be raised when a recipe changes but none of what goes into a key does; entries made before are
# then built anew.
VERSION = 1

# The largest build: one userland, its archives, unpacked, as tar file and as image.
BUILD_SPACE = 2500 << 20


def cache_directory() -> Path:
    """Where entries are kept: ``~/.cache/pytools/kernels``, or below ``XDG_CACHE_HOME``."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "pytools" / "kernels"


def key(*inputs: object) -> str:
    """Sixteen hex digits that change when any of ``inputs`` does."""
    return hashlib.sha256(json.dumps([VERSION, *inputs], sort_keys=True).encode()).hexdigest()[:16]


def digest(path: Path) -> str:
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def manifest(entry: Path) -> dict[str, list[object]]:
    """Size and hash of each regular file below ``entry``."""
    files = sorted(
        path
        for path in entry.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != "manifest.json"
    )
    return {str(path.relative_to(entry)): [path.stat().st_size, digest(path)] for path in files}


def is_whole(entry: Path) -> bool:
    """Whether an entry is there, byte for byte."""
    try:
        recorded = json.loads((entry / "manifest.json").read_text())
        # Sizes first: most damage shows there, in no time.
        return (
            all((entry / name).stat().st_size == size for name, (size, _) in recorded.items())
            and manifest(entry) == recorded
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def load(entry: Path) -> Path | None:
    """``entry`` if it is whole; otherwise None, and what is there is removed."""
    if is_whole(entry):
        return entry
    if entry.exists():
        shutil.rmtree(entry)
    return None


@contextmanager
def sole_builder(cache: Path) -> Iterator[None]:
    """One build at a time in a cache; what an interrupted one left behind is removed."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in cache.glob("building-*"):
            shutil.rmtree(leftover)
        yield


def entry(
    kind: str,
    name: str,
    inputs: Sequence[object],
    build: Callable[[Path, Path], None],
    say: Callable[[str], None],
) -> Path:
    """The cache entry for ``inputs``, built by ``build(directory, scratch)`` unless it is there.

    :raises ImageError: if it can't be built; nothing is left of it then.
    """
    cache = cache_directory()
    place = cache / f"{kind}-{name}-{key(*inputs)}"
    building = cache / "building-entry"
    scratch = cache / "building-scratch"
    if is_whole(place):  # who only uses it does not wait for who builds another one
        return place
    try:
        with sole_builder(cache):
            if found := load(place):
                return found
            free = shutil.disk_usage(cache).free
            if free < BUILD_SPACE:
                raise ImageError(
                    f"it takes {BUILD_SPACE >> 20} MiB, and {free >> 20} MiB are free in {cache}"
                )
            say(f"building {kind} {name}")
            start = time.monotonic()
            try:
                building.mkdir()
                scratch.mkdir()
                build(building, scratch)
                (building / "manifest.json").write_text(json.dumps(manifest(building), indent=1))
                # The name must not reach the disk before the data does.
                os.sync()
                building.rename(place)
            finally:
                shutil.rmtree(building, ignore_errors=True)
                shutil.rmtree(scratch, ignore_errors=True)
            for other in cache.glob(f"{kind}-{name}-{'?' * 16}"):
                if other != place:
                    shutil.rmtree(other)
            say(f"built {kind} {name} in {time.monotonic() - start:.0f} s")
            return place
    except ImageError as error:
        raise type(error)(f"cannot build {kind} {name}: {error}") from None
    except OSError as error:
        raise ImageError(
            f"cannot build {kind} {name}: {error.strerror or error}: {error.filename or cache}"
        ) from None
