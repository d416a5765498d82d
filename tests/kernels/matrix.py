"""The table of supported kernels, read from matrix.txt."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["MatrixError", "Row", "TABLE", "choose", "read"]

TABLE = Path(__file__).with_name("matrix.txt")
OPTIONS = frozenset({"arm64", "headers", "no-btf", "real-time"})


class MatrixError(Exception):
    """The table, or what was asked of it, is wrong; the message is one line that says how."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a kernel, where it comes from, and the userland that runs on it."""

    name: str
    package: str
    suite: str
    userland: str
    options: frozenset[str] = frozenset()
    # Neither the oldest nor the newest of its architecture: only tests of `every_kernel` run there.
    between: bool = False

    @property
    def release(self) -> str:
        """The part of ``uname -r`` that the row promises: ``5.10`` for the row ``5.10-headers``."""
        return self.name.partition("-")[0]

    @property
    def architecture(self) -> str:
        """Debian's name of the processor."""
        return "arm64" if "arm64" in self.options else "amd64"


def read(text: str) -> list[Row]:
    """Parse the table. ``read(TABLE.read_text())[0].release`` is ``"5.10"``.

    :raises MatrixError: naming the line that is no row.
    """
    rows: list[Row] = []
    for number, line in enumerate(text.splitlines(), 1):
        columns = line.partition("#")[0].split()
        if not columns:
            continue
        if len(columns) < 4:
            raise MatrixError(
                f"kernel table, line {number}: not name, package, suite, userland: {line.strip()}"
            )
        name, package, suite, userland, *options = columns
        if not re.fullmatch(r"\d+\.\d+(-[a-z0-9]+)*", name):
            raise MatrixError(
                f"kernel table, line {number}: a name starts with a release, like 6.12: {name}"
            )
        unknown = sorted(set(options) - OPTIONS)
        if unknown:
            raise MatrixError(f"kernel table, line {number}: no such option: {' '.join(unknown)}")
        if any(row.name == name for row in rows):
            raise MatrixError(f"kernel table, line {number}: {name} is there twice")
        rows.append(Row(name, package, suite, userland, frozenset(options)))
    return [replace(row, between=is_between(row, rows)) for row in rows]


def is_between(row: Row, rows: list[Row]) -> bool:
    """Whether a row stands between the oldest and the newest one of its architecture. Rows without
    the kernel's types are counted apart: they have few tests."""

    def kind(each: Row) -> tuple[str, bool]:
        return each.architecture, "no-btf" in each.options

    same = [each for each in rows if kind(each) == kind(row)]
    return row not in (same[0], same[-1])


def choose(rows: list[Row], names: str) -> list[Row]:
    """The rows in ``names``, separated by spaces or commas, in the table's order; all if empty.

    :raises MatrixError: naming what the table has, if a name isn't in it.
    """
    wanted = names.replace(",", " ").split()
    known = [row.name for row in rows]
    for name in wanted:
        if name not in known:
            raise MatrixError(f"no kernel {name} in the table, which has: {' '.join(known)}")
    return [row for row in rows if not wanted or row.name in wanted]
