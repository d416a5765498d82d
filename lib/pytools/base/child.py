"""Child processes: what brings LLVM with it runs in one, and ends with it."""
from __future__ import annotations

import os
import subprocess
import sys
import time

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure

if TYPE_CHECKING:
    from typing import Callable

__all__ = ["output", "reason", "start"]

LOOK_SECONDS = 0.05


def start(what: str, folder: str, script: str, messages: int) -> subprocess.Popen[bytes]:
    """Run a script in a folder, with pipes on its standard input and output, and
    ``messages`` (as subprocess has it) for its standard error. Raises Failure, in which ``what``
    is what it is for. In a session of its own: Ctrl-C is the tool's, which ends the child."""
    # -I: nothing from the environment or the working directory is imported.
    # -B: an installed tool, which is started with it, writes nothing where it lies.
    flags = "-IB" if sys.dont_write_bytecode else "-I"
    try:
        return subprocess.Popen(
            [sys.executable, flags, os.path.join(folder, script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            cwd="/",
            env=_environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise Failure(f"cannot start {what}: {error.strerror}") from None


def output(
    child: subprocess.Popen[bytes], seconds: float, interrupted: Callable[[], bool]
) -> tuple[bytes, bytes]:
    """What a child writes to its output and as messages until it ends. Raises TimeoutError after
    so many seconds, and KeyboardInterrupt as soon as ``interrupted`` says so. The child is gone
    then."""
    deadline = time.monotonic() + seconds
    try:
        while not interrupted():
            try:
                return child.communicate(timeout=LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if time.monotonic() >= deadline:
                    raise TimeoutError from None
        raise KeyboardInterrupt
    except BaseException:
        child.kill()
        child.communicate()
        raise


def reason(status: int, messages: str = "") -> str:
    """Why a child failed that ended with a status (as subprocess has it): never nothing.

    >>> reason(-9), reason(1, "Traceback ...\\nOSError: no such thing"), reason(1)
    ('killed by signal 9', 'OSError: no such thing', 'status 1, no reason given')
    """
    if status < 0:
        return f"killed by signal {-status}"
    return "".join(messages.strip().splitlines()[-1:]) or f"status {status}, no reason given"


def _environment() -> dict[str, str]:
    # An image is kept for all who start the tool later: no environment of one of them may have
    # made bcc compile it for another machine (ARCH, which builders of kernels set) or from other
    # headers.
    return {
        name: text
        for name, text in os.environ.items()
        if name != "ARCH" and not name.startswith("BCC_")
    }
