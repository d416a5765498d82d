"""Work on files of a known size, for the tests of the tools that watch file systems."""
from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from support import python_child

# /var/tmp is on a disk where the tests run outside of the matrix, too.
SCRATCH = Path(os.environ.get("PYTOOLS_SCRATCH", "/var/tmp"))


def _type_of_scratch() -> str:
    """The type of the file system that SCRATCH is on."""
    with open("/proc/self/mounts") as mounts:
        found = [line.split()[1:3] for line in mounts]
    device = os.stat(SCRATCH).st_dev
    return next(kind for place, kind in found if os.stat(place).st_dev == device)


needs_ext4 = pytest.mark.skipif(
    _type_of_scratch() != "ext4", reason=f"{os.uname().release} has no ext4 at {SCRATCH}"
)

# Executes the lines that it gets, and says when each is done.
_WORKER = """
import os, sys
os.chdir(sys.argv[1])
os.write(1, b"ready\\n")
for line in iter(sys.stdin.readline, ""):
    exec(eval(line))
    os.write(1, b"done\\n")
"""


class Worker:
    """A process in a folder, which runs Python when it is told to."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self.pid = child.pid
        assert child.stdout and child.stdout.readline() == b"ready\n"

    def do(self, code: str) -> None:
        """Run this; it is done when this returns."""
        self.begin(code)
        self.wait()

    def begin(self, code: str) -> None:
        assert self._child.stdin
        self._child.stdin.write(f"{code!r}\n".encode())
        self._child.stdin.flush()

    def wait(self) -> None:
        assert self._child.stdout and self._child.stdout.readline() == b"done\n"


@contextlib.contextmanager
def folder(name: str) -> Iterator[Path]:
    """A new folder on a disk, which is removed at the end."""
    path = SCRATCH / f"{name}-{os.getpid()}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def worker(path: Path) -> Iterator[Worker]:
    """A process that works in a folder."""
    with python_child(_WORKER, str(path)) as child:
        yield Worker(child)
