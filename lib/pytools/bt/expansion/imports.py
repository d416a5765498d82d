"""import: the files that a program names, each read once, and the standard library.

The text of each is put behind the program's own, so that a place is a place in one text.
"""
from __future__ import annotations

import os
import stat

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.expansion.standard import STANDARD, STANDARD_NAME
from pytools.bt.parse import decode, parse
from pytools.bt.wrong import Wrong

if TYPE_CHECKING:
    from typing import Iterator

    from pytools.bt.tree import Program, Text

__all__ = ["Sources"]

_FILES = 100  # that a program may import
_LARGEST = 1 << 20  # bytes of one


class Sources:
    """The program with all that it imports: ``text`` is that of all, ``files`` are those in it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.text = program.text
        self.files = list(program.files) or [(0, program.name)]
        self._seen: set[tuple[int, int]] = set()
        self._standard: list[tree.Macro] = []

    def merged(self) -> Program:
        """The program and its imports as one: theirs come first, and that of an import's own
        imports before it. Raises Wrong."""
        if not self.program.imports:
            return self.program
        parts = [*self._imported(self.program), self.program]
        return self.program._replace(
            types=tuple(each for part in parts for each in part.types),
            maps=tuple(each for part in parts for each in part.maps),
            macros=tuple(each for part in parts for each in part.macros),
            subprograms=tuple(each for part in parts for each in part.subprograms),
            probes=tuple(each for part in parts for each in part.probes),
        )

    def standard(self) -> list[tree.Macro]:
        """The macros of the standard library, which is read when it is first asked for."""
        if not self._standard:
            self._standard = list(self._parse(STANDARD, STANDARD_NAME).macros)
        return self._standard

    def _imported(self, program: Program) -> Iterator[Program]:
        for wanted in program.imports:
            for path in self._paths(program.name, wanted):
                part = self._read(path, wanted)
                if part is None:
                    continue
                if part.config:
                    raise Wrong(part.config[0][0], "an imported file cannot have a config block")
                yield from self._imported(part)
                yield part

    def _paths(self, importer: str, wanted: Text) -> list[str]:
        """The files that an import names: that of the path, or all in its directory."""
        path = os.path.join(os.path.dirname(importer), wanted.value)
        if not os.path.isdir(path):
            return [path]
        self._check_directory(path, wanted)
        names = sorted(name for name in os.listdir(path) if _can_read(name))
        return [os.path.join(path, name) for name in names]

    def _read(self, path: str, wanted: Text) -> Program | None:
        """The tree of a file; None if it was read before."""
        if not _can_read(path):
            raise Wrong(
                wanted.at, f"cannot import '{wanted.value}': only .bt files and .h files can be"
            )
        self._check_directory(os.path.dirname(path) or ".", wanted)
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                data = file.read(_LARGEST + 1) if stat.S_ISREG(status.st_mode) else None
        except OSError as error:
            raise Wrong(
                wanted.at, f"cannot import '{wanted.value}': {os.strerror(error.errno or 0)}"
            ) from None
        if data is None:
            raise Wrong(wanted.at, f"cannot import '{wanted.value}': it is no file")
        identity = status.st_dev, status.st_ino
        if identity in self._seen:
            return None
        self._seen.add(identity)
        if len(self._seen) > _FILES:
            raise Wrong(wanted.at, f"more than {_FILES} files are imported")
        try:
            text = decode(data, path)
        except Wrong as wrong:
            raise Wrong(wanted.at, f"cannot import '{wanted.value}': {wrong.message}") from None
        return self._parse(text, path)

    def _check_directory(self, path: str, wanted: Text) -> None:
        """Anybody could put a file into a directory that all can write to."""
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            raise Wrong(
                wanted.at, f"cannot import '{wanted.value}': {os.strerror(error.errno or 0)}"
            ) from None
        if mode & stat.S_IWOTH:
            raise Wrong(
                wanted.at,
                f"cannot import '{wanted.value}': everybody can write to the directory {path}",
                "move the file, or take that right away (chmod o-w)",
            )

    def _parse(self, text: str, name: str) -> Program:
        start = len(self.text) + 1
        whole = f"{self.text}\n{text}"
        try:
            found = parse(whole, name, start)
        except Wrong as wrong:
            if wrong.at is not None:
                wrong.at = wrong.at[0] - start, wrong.at[1] - start
            wrong.source = text, name
            raise
        self.text = whole
        self.files.append((start, name))
        return found


def _can_read(path: str) -> bool:
    return path.endswith((".bt", ".h"))
