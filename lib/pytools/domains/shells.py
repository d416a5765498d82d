"""The shells that are installed."""
from __future__ import annotations

import os

__all__ = ["installed"]

SHELLS = "/etc/shells"


def installed(name: str) -> list[str]:
    """The paths of the installed shells (shells(5)), by whatever name, that are a program whose
    file's name begins with ``name``. Where the list of shells cannot be read, /bin/NAME stands for
    it."""
    try:
        with open(SHELLS) as lines:
            paths = [line.strip() for line in lines]
    except (OSError, UnicodeDecodeError):
        paths = [f"/bin/{name}"]
    return [path for path in paths if os.path.basename(os.path.realpath(path)).startswith(name)]
