"""Files that a user names, to which a tool writes at its end."""
from __future__ import annotations

import errno
import os

from pytools.base.errors import Failure

__all__ = ["OutputFile"]


class OutputFile:
    """A file that is opened now, so that a mistake shows before anything is traced, and written
    later; what is in it stays until then. Raises Failure where it cannot be opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        try:
            # A FIFO that nobody reads must not keep it waiting: somebody may have put it there.
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._descriptor = os.open(path, flags, 0o666)
            os.set_blocking(self._descriptor, True)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise Failure(f"cannot write to {path}: nobody reads this FIFO") from None
            raise self._failure(error) from None

    def write(self, data: str) -> None:
        """Make this all that is in the file, and close it. Raises Failure."""
        assert self._descriptor is not None
        descriptor, self._descriptor = self._descriptor, None
        try:
            with open(descriptor, "w", encoding="utf-8") as text:
                if text.seekable():
                    text.truncate()
                text.write(data)
        except OSError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """Close the file, if it is open still."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _failure(self, error: OSError) -> Failure:
        return Failure(f"cannot write to {self._path}: {error.strerror}")
