"""Compiled images on disk, and the index of the kernel's types.

An image becomes a program in the kernel, so an entry is believed only when
nobody but the user who runs the tool could have written it: the folder and the
file must be that user's own, closed to everybody else, and no links. Root's
images are in /var/cache/pytools whatever the environment says.

An entry is a SHA-256 digest and the image. A damaged one is overwritten.
"""
from __future__ import annotations

import os
import stat
import time

from pytools.base.system import sha256

__all__ = ["Cache", "key"]

ROOT_FOLDER = "/var/cache/pytools"
DIGEST_BYTES = sha256().digest_size
# The largest image of the collection has 20 KiB, the index of a kernel's types 700; a tool has
# a few dozen option combinations in use.
LARGEST = 2 * 1024 * 1024
MOST_ENTRIES = 256
# An entry's time says when it was last used, to the day: less writing.
DAY = 24 * 60 * 60


def key(*parts: str) -> str:
    """The name of the entry for what the parts say together."""
    digest = sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        digest.update(b"%d:" % len(data) + data)
    return str(digest.hexdigest())


def folder() -> str:
    """Where the images of the user who runs this process are."""
    if os.geteuid() == 0:
        return ROOT_FOLDER
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "pytools")


class Cache:
    """The images in a folder. ``why_not`` says why the folder can't be used,
    and is empty when it can."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.why_not = ""
        self._folder = -1
        try:
            self._folder = self._open()
        except OSError as error:
            self.why_not = f"{path}: {error.strerror}"
        if self._folder >= 0:
            self.why_not = _distrust(os.fstat(self._folder), path)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._folder >= 0:
            os.close(self._folder)

    def _open(self) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(self.path, flags)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), 0o755, exist_ok=True)
            try:
                os.mkdir(self.path, 0o700)
            except FileExistsError:
                pass  # another tool was faster
            return os.open(self.path, flags)

    def load(self, name: str) -> bytes | None:
        """The image of that name; None if there is none to be trusted."""
        if self.why_not:
            return None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.open(name, flags, dir_fd=self._folder)
        except OSError:
            return None
        try:
            status = os.fstat(file)
            if _distrust(status, name) or not stat.S_ISREG(status.st_mode):
                return None
            if status.st_size > LARGEST:
                return None
            data = os.read(file, status.st_size)
            image = data[DIGEST_BYTES:]
            if sha256(image).digest() != data[:DIGEST_BYTES]:
                return None
            if time.time() - status.st_mtime > DAY:
                os.utime(file)
            return image
        except OSError:
            return None
        finally:
            os.close(file)

    def store(self, name: str, image: bytes) -> None:
        """Keep an image, where the folder can be written and has room: a tool that is needed on a
        full disk works, and ``why_not`` says what it could not keep."""
        if self.why_not or DIGEST_BYTES + len(image) > LARGEST:
            return
        temporary = f".{name}.{os.urandom(8).hex()}"
        try:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                file = os.open(temporary, flags, 0o600, dir_fd=self._folder)
                with open(file, "wb") as output:
                    output.write(sha256(image).digest() + image)
                self._rename(temporary, name)
            except OSError:
                self._remove(temporary)
                raise
            self._shrink()
        except OSError as error:
            self.why_not = f"{self.path}: {error.strerror}"

    def _rename(self, temporary: str, name: str) -> None:
        try:
            os.rename(temporary, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except IsADirectoryError:  # whoever made it: nothing belongs there but an entry
            os.rmdir(name, dir_fd=self._folder)
            os.rename(temporary, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._folder)
        except OSError:
            pass

    def _shrink(self) -> None:
        """Remove the entries that were used longest ago, and what an
        interrupted writer left."""
        entries = []
        for name in os.listdir(self._folder):
            try:
                entries.append((os.stat(name, dir_fd=self._folder).st_mtime, name))
            except OSError:
                continue
        entries.sort()
        leftovers = [n for t, n in entries if n.startswith(".") and time.time() - t > DAY]
        kept = [n for _, n in entries if not n.startswith(".")]
        for name in leftovers + kept[: max(0, len(kept) - MOST_ENTRIES)]:
            self._remove(name)


def _distrust(status: os.stat_result, name: str) -> str:
    if status.st_uid != os.geteuid():
        return f"{name} belongs to user {status.st_uid}"
    if status.st_mode & 0o077:
        return f"{name} is open to other users (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""
