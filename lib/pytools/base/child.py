"""Child processes: what brings LLVM with it runs in one, and ends with it."""
from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["start"]


def start(folder: str, script: str, messages: int) -> subprocess.Popen[bytes]:
    """Run a script in a folder, with pipes on its standard input and output, and
    ``messages`` (as subprocess has it) for its standard error; raises OSError."""
    # -I: nothing from the environment or the working directory is imported.
    # -B: an installed tool, which is started with it, writes nothing where it lies.
    flags = "-IB" if sys.dont_write_bytecode else "-I"
    return subprocess.Popen(
        [sys.executable, flags, os.path.join(folder, script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=messages,
        cwd="/",
        env=_environment(),
    )


def _environment() -> dict[str, str]:
    # An image is kept for all who start the tool later: no environment of one of them may have
    # made bcc compile it for another machine (ARCH, which builders of kernels set) or from other
    # headers.
    return {
        name: text
        for name, text in os.environ.items()
        if name != "ARCH" and not name.startswith("BCC_")
    }
