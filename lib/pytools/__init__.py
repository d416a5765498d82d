"""What the tools of the pytools collection share."""
from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False  # typing's own takes too long to import this early
if TYPE_CHECKING:
    from types import TracebackType

__version__ = "0.1.0"


def limit_of(error: BaseException) -> str:
    """Which limit of the machine's or of the process's an error is about; empty if it is about
    none. Any line may meet one."""
    if isinstance(error, MemoryError):
        return "out of memory"
    return {
        errno.ENOMEM: "out of memory",
        errno.EMFILE: "too many open files for this process: allow it more (ulimit -n)",
        errno.ENFILE: "the machine has too many open files",
    }.get(getattr(error, "errno", None) or 0, "")


def _hook(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    # While the tool is still importing its modules: Ctrl-C, and limits.
    why = limit_of(error)
    if why:
        sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {why}\n")
    elif not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, at)


sys.excepthook = _hook
