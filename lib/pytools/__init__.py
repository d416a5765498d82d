"""What the tools of the pytools collection share."""
from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing's own takes too long to import this early
if TYPE_CHECKING:
    from types import TracebackType

__version__ = "0.1.0"


def _hook(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    # Ctrl-C while the tool is still importing its modules.
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, at)


sys.excepthook = _hook
