"""The paths of files that a program has kept (bpf/kept_paths.h)."""
from __future__ import annotations

import struct

from pytools.load.program import Program

__all__ = ["KeptPaths"]


class KeptPaths:
    """Those of a program that has ``#include "kept_paths.h"``."""

    def __init__(self, program: Program) -> None:
        self._paths = program.maps["kept_paths"]

    def names(self, number: int, device: int, generation: int) -> bytes | None:
        """What path.h wrote of the file with this struct file_id; None where it is not kept."""
        found = self._paths.get(struct.pack("=QII", number, device, generation))
        if found is None:
            return None
        size, names = found
        return bytes(names[:size])
