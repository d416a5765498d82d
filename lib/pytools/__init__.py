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
    # While the tool is still importing its modules: limits.
    why = limit_of(error)
    if why:
        sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {why}\n")
    elif not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, at)


def _let_interrupts_end() -> None:
    """Until a tool has something to take down, and waits (tool/waiting.py), Ctrl-C ends it as it
    ends any program. Python's exception would be lost where Python must not raise one: in what it
    calls when an object goes, such as the lock of an import."""
    import signal  # which imports much: not before the hook is there

    ours = os.path.exists(os.path.join(os.path.dirname(sys.argv[0]), "pytools"))
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


sys.excepthook = _hook
_let_interrupts_end()
