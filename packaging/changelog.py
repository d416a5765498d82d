"""CHANGELOG.md in the form of a package: ``debian``, ``rpm``; or what its newest entry
says: ``version``, ``epoch`` (its day, in seconds since 1970)."""
from __future__ import annotations

import calendar
import re
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
MAINTAINER = "pytools maintainers <maintainers@pytools.invalid>"


class Entry(NamedTuple):
    version: str
    day: time.struct_time
    changes: list[str]


def entries() -> list[Entry]:
    """The versions of CHANGELOG.md, newest first."""
    parts = re.split(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    found = []
    for version, day, text in zip(parts[1::3], parts[2::3], parts[3::3]):
        changes = [re.sub(r"\s+", " ", item) for item in re.split(r"^- ", text, flags=re.M)[1:]]
        found.append(Entry(version, time.strptime(day, "%Y-%m-%d"), [c.strip() for c in changes]))
    return found


def items(entry: Entry, first: str, width: int) -> str:
    return "".join(
        textwrap.fill(change, width, initial_indent=first, subsequent_indent=" " * len(first))
        + "\n"
        for change in entry.changes
    )


def debian(entry: Entry) -> str:
    day = time.strftime("%a, %d %b %Y 00:00:00 +0000", entry.day)
    head = f"pytools ({entry.version}) unstable; urgency=medium\n"
    return f"{head}\n{items(entry, '  * ', 78)}\n -- {MAINTAINER}  {day}\n"


def rpm(entry: Entry) -> str:
    day = time.strftime("%a %b %d %Y", entry.day)
    return f"* {day} {MAINTAINER} - {entry.version}-1\n{items(entry, '- ', 78)}"


def main() -> None:
    newest = entries()[0]
    print(
        {
            "version": lambda: newest.version,
            "epoch": lambda: str(calendar.timegm(newest.day)),
            "debian": lambda: "\n".join(map(debian, entries())).rstrip("\n"),
            "rpm": lambda: "\n".join(map(rpm, entries())).rstrip("\n"),
        }[sys.argv[1]]()
    )


if __name__ == "__main__":
    main()
