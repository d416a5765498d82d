"""The C library of processes: where it is among the files that they have mapped."""
from __future__ import annotations

import os
import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.process_files import open_in_root
from pytools.domains.mapped_files import WatchedFiles
from pytools.load.program import Program

if TYPE_CHECKING:
    from typing import Callable, Iterable


__all__ = ["c_libraries"]

# The C library of glibc, musl and others; glibc's loader, which is the first to be there.
PATTERN = re.compile(
    r".*/(libc\.so(\.6)?|libc-[\d.]+\.so|(ld|libc\.)-?musl-[\w-]+\.so\.1"
    r"|(?P<loader>ld-linux[\w.-]*|ld-[\d.]+\.so|ld64\.so\.\d))$"
)
MUSL = "/lib/ld-musl-*.so.1"


def c_libraries(
    program: Program, functions: Iterable[str], complain: Callable[[str], None], consequence: str
) -> WatchedFiles:
    """Functions of the C libraries of all processes, and of musl's where it is installed: see
    ``WatchedFiles``."""
    return WatchedFiles(program, PATTERN, functions, complain, consequence, [MUSL], _library)


def _library(pid: int, path: str, name: str) -> tuple[str, str] | None:
    """The C library that a file stands for: itself, or for a loader that of its own version, which
    it maps only now. That is beside it."""
    match = PATTERN.match(name)
    if match is None or not match["loader"]:
        return path, name
    name = f"{os.path.dirname(name)}/libc.so.6"
    try:
        os.close(open_in_root(pid, name))
    except OSError:
        return None
    return "", name
