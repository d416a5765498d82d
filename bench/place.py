"""Where a bench works: a folder of its own, compiled loads, the environment."""
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Callable, Sequence

import installed
from installed import Peer
from processes import QUIET, Tool, Trouble

# Emulated processors take a minute to start a tool of bcc's, and are slower the more
# else the host does: there a tool is started once, for so many loads, each shorter by
# so much, of which the least counts.
EMULATED_LOADS = 10
EMULATED_SHORTER = 20
# Seconds in which bcc's tools, emulated, look through all functions of the kernel
# between one attachment and the next.
EMULATED_QUIET = 15.0


class Place:
    """A folder that is gone at the end, and what is in it; use it in a ``with``
    statement. ``emulated``: whether the processors are."""

    def __init__(self, emulated: bool = False) -> None:
        self._emulated = emulated

    def __enter__(self) -> Place:
        self._temporary = tempfile.TemporaryDirectory(prefix="pytools-bench-")
        self.folder = Path(self._temporary.name)
        self.env = installed.environment(self.folder)
        return self

    def __exit__(self, *exception: object) -> None:
        self._temporary.cleanup()

    def times(self, count: int) -> int:
        """How often a load does here what it does ``count`` times on real processors."""
        return count // EMULATED_SHORTER if self._emulated else count

    def rounds(self, usual: int) -> int:
        """How often the tools are started here, in turns."""
        return 1 if self._emulated else usual

    @property
    def loads(self) -> int:
        """How many loads a tool that was started sees here."""
        return EMULATED_LOADS if self._emulated else 1

    def counts(self, taken: Sequence[float]) -> float:
        """Which of these counts, that all loads took in all rounds."""
        return min(taken) if self._emulated else median(taken)

    def load(self, name: str) -> Path:
        """The program made of ``loads/NAME.c``."""
        program = self.folder / name
        if not program.exists():
            source = installed.BENCH / "loads" / f"{name}.c"
            command = ["gcc", "-O2", "-Wall", "-o", str(program), str(source)]
            if subprocess.run(command, check=False).returncode:
                raise Trouble(f"cannot compile {source}")
        return program

    def tool(self, name: str, command: list[str]) -> Tool:
        """A tool to be run beside a load, its output in ``tool.output``."""
        quiet = EMULATED_QUIET if self._emulated else QUIET
        return Tool(name, command, self.folder / "output", self.env, quiet)

    def first_of(
        self, *peers: Peer, sees: Callable[[Tool], bool] = lambda tool: True
    ) -> tuple[str, list[str]]:
        """The first peer that runs here, and ``sees`` what it is measured by: what it is,
        and its command. A note says why those before it don't. Trouble if none does."""
        refused: list[str] = []
        for name, command in peers:
            progress(f"does it run here: {name}")
            try:
                found = installed.with_tracefs(command())
                with self.tool(name, found) as tool:
                    if not sees(tool):
                        raise Trouble(f"{name} does not see here what it is measured by")
                    tool.stop()
            except Trouble as error:
                refused.append(str(error))
                continue
            if refused:
                installed.note(f"{'; '.join(refused)}. In its place: {name}.")
            return name, found
        raise Trouble("; ".join(refused))

    def first_or_none(
        self, *peers: Peer, sees: Callable[[Tool], bool] = lambda tool: True
    ) -> tuple[str, list[str]]:
        """The first peer that runs here, or nothing if none does, which a note then says."""
        try:
            return self.first_of(*peers, sees=sees) if peers else ("", [])
        except Trouble as error:
            installed.note(f"{error}.")
            return "", []


def progress(text: str) -> None:
    """Say on a terminal what is being measured, over what was said before."""
    if os.isatty(2):
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
