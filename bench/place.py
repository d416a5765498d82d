"""Where a bench works: a folder of its own, compiled loads, the environment."""
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import installed
from processes import QUIET, Tool, Trouble


class Place:
    """A folder that is gone at the end, and what is in it; use it in a ``with``
    statement."""

    def __enter__(self) -> Place:
        self._temporary = tempfile.TemporaryDirectory(prefix="pytools-bench-")
        self.folder = Path(self._temporary.name)
        self.env = installed.environment(self.folder)
        return self

    def __exit__(self, *exception: object) -> None:
        self._temporary.cleanup()

    def load(self, name: str) -> Path:
        """The program made of ``loads/NAME.c``."""
        program = self.folder / name
        if not program.exists():
            source = installed.BENCH / "loads" / f"{name}.c"
            command = ["gcc", "-O2", "-Wall", "-o", str(program), str(source)]
            if subprocess.run(command, check=False).returncode:
                raise Trouble(f"cannot compile {source}")
        return program

    def tool(self, name: str, command: list[str], quiet: float = QUIET) -> Tool:
        """A tool to be run beside a load, its output in ``tool.output``; it has attached
        when nothing more was attached for ``quiet`` seconds."""
        return Tool(name, command, self.folder / "output", self.env, quiet)


def progress(text: str) -> None:
    """Say on a terminal what is being measured, over what was said before."""
    if os.isatty(2):
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
