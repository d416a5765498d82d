"""The record of what has been proved, which is committed: proved.txt, a line for each row and unit.

A line says that all tests of a unit (inputs.py) have passed on a row at their first try, or were
skipped for the kernel's sake, when its inputs had this hash; and at which commit and on which day.
A ``+`` behind the commit: with changes that were not committed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

from results import PASS, SKIP, RowResult

__all__ = ["Proof", "RECORD", "commit_of", "passed_units", "proofs_of", "read", "write"]

RECORD = Path(__file__).with_name("proved.txt")
HEAD = """\
# What has passed on which kernel, written by `make test-kernels`: docs/kernels.md. A line whose
# hash is not that of the checkout at hand proves nothing.
#
# row module tool hash commit date
"""
LINE = re.compile(r"(\S+) (test_\w+) (\S+) ([0-9a-f]{16}) ([0-9a-f]{7,40}\+?) (\d{4}-\d\d-\d\d)")


class Proof(NamedTuple):
    """A line."""

    row: str
    unit: str
    key: str
    commit: str
    day: str


def read(path: Path) -> dict[tuple[str, str], Proof]:
    """The proofs in a file, by row and unit; a line that isn't one proves nothing."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        if match := LINE.fullmatch(line):
            row, module, tool, key, commit, day = match.groups()
            unit = module if tool == "-" else f"{module} {tool}"
            found[row, unit] = Proof(row, unit, key, commit, day)
    return found


def write(path: Path, proofs: Iterable[Proof]) -> None:
    """Write a file of proofs, sorted."""
    lines = []
    for proof in proofs:
        module, _, tool = proof.unit.partition(" ")
        lines.append(f"{proof.row} {module} {tool or '-'} {proof.key} {proof.commit} {proof.day}\n")
    new = path.with_name(path.name + ".new")
    new.write_text(HEAD + "".join(sorted(lines)))
    new.replace(path)


def proofs_of(
    record: Mapping[tuple[str, str], Proof], row: str, keys: Mapping[str, str]
) -> list[Proof]:
    """Those of the record that hold: of units whose ``keys`` are now what they were then."""
    found = (record.get((row, unit)) for unit in keys)
    return [proof for proof in found if proof is not None and proof.key == keys[proof.unit]]


def passed_units(
    result: RowResult, units: Collection[str], tools: Mapping[str, Collection[str]], chosen: bool
) -> tuple[list[str], list[str]]:
    """Which of ``units`` a run of a row has proved, and why others that passed are not proved.

    ``tools`` are those that a unit's key covers. With ``chosen`` only some tests were selected;
    without, a unit that has none on that row is proved.
    """
    if result.trouble is not None:
        return [], []
    proved, complaints = [], []
    for unit in units:
        tests = [test for test in result.results if test.unit == unit]
        good = all(test.outcome in (PASS, SKIP) and not test.partial for test in tests)
        started = {tool for test in tests for tool in test.started}
        if not good or chosen and not tests:
            continue
        if unknown := sorted(started - set(tools[unit])):
            complaints.append(
                f"{unit} starts {' and '.join(unknown)}, and doesn't name it: not recorded"
            )
            continue
        proved.append(unit)
    return proved, complaints


def commit_of(checkout: Path) -> str:
    """The checkout's commit, with ``+`` if what is in it has changed since."""
    git = ["git", "-C", str(checkout)]
    commit = subprocess.run(
        [*git, "rev-parse", "--short=10", "HEAD"], stdout=subprocess.PIPE, check=True, text=True
    ).stdout.strip()
    status = subprocess.run(
        [*git, "status", "--porcelain", "--", ".", f":!*{RECORD.name}"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    return commit + "+" * bool(status)


def today() -> str:
    return date.today().isoformat()
