"""Golden C: what templates become, as a text for the newest kernel and what differs for others.

``fixtures/golden/NAME.c`` is the text for the newest recorded kernel. ``NAME.diff`` says how the
text for each other kernel differs from it: a unified difference without context, whose hunks
name the struct or function that they are in. Kernels with the same text stand together. The
heading of each difference says what has changed beside the padding between members:
``grep '^+++' fixtures/golden/*.diff`` is an overview.
"""
from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Iterator, Mapping, Sequence

from capture import FIXTURES, RECORDED

FOLDER = FIXTURES / "golden"
NEWEST = RECORDED[-1]
# Padding before a member: it differs from kernel to kernel where nothing else does.
PADDING = re.compile(r"^([-+]?)\tchar _pad\d+\[\d+\];\n", re.M)
HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def paths(name: str) -> tuple[Path, Path]:
    """The files of a golden text: that of the newest kernel, and the differences."""
    return FOLDER / f"{name}.c", FOLDER / f"{name}.diff"


def write(name: str, texts: Mapping[str, str]) -> None:
    """Keep the texts of all recorded kernels."""
    newest, others = paths(name)
    FOLDER.mkdir(exist_ok=True)
    base = texts[NEWEST]
    newest.write_text(base)
    groups: dict[str, list[str]] = {}
    for release in RECORDED[:-1]:
        groups.setdefault(texts[release], []).append(release)
    parts = []
    for text, group in groups.items():
        hunks = list(difference(_lines(base), _lines(text)))
        parts.append(f"--- {NEWEST}\n+++ {', '.join(group)}: {_summary(hunks)}\n" + "".join(hunks))
    others.write_text("".join(parts))


def read(name: str) -> dict[str, str]:
    """The texts that are kept, by kernel."""
    newest, others = paths(name)
    base = newest.read_text()
    texts = {NEWEST: base}
    for part in others.read_text().split(f"--- {NEWEST}\n+++ ")[1:]:
        heading, _, hunks = part.partition("\n")
        text = "".join(applied(_lines(base), _lines(hunks)))
        for release in heading.partition(":")[0].split(", "):
            texts[release] = text
    return texts


def form(text: str) -> str:
    """A text without what differs on each kernel: the padding between members."""
    return PADDING.sub("", text)


def difference(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """The hunks that make one text of another, as lines. difflib's own unified_diff takes
    lines that are frequent in a long text (closing braces) for different ones."""
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, first, end, new_first, new_end in matcher.get_opcodes():
        if tag != "equal":
            heads = [line for line in before[:first] if re.match(r"[A-Za-z_]", line)]
            place = f"@@ -{_range(first, end)} +{_range(new_first, new_end)} @@ "
            yield place + (heads[-1] if heads else "the beginning\n")
            yield from (f"-{line}" for line in before[first:end])
            yield from (f"+{line}" for line in after[new_first:new_end])


def applied(before: Sequence[str], hunks: Sequence[str]) -> Iterator[str]:
    """The lines that hunks make of a text. Fails if they are not about that text."""
    position, left = 0, list(hunks)
    while left:
        found = HUNK.match(left.pop(0))
        assert found, hunks
        first, removed, _, added = map(int, found.groups("1"))
        first -= removed > 0
        yield from before[position:first]
        position = first + removed
        assert left[:removed] == [f"-{line}" for line in before[first:position]]
        new = left[removed : removed + added]
        assert len(new) == added and all(line.startswith("+") for line in new)
        yield from (line[1:] for line in new)
        del left[: removed + added]
    yield from before[position:]


def _range(first: int, end: int) -> str:
    """Lines as a hunk names them: the first, and how many. Of none, the line before."""
    number = end - first
    return f"{first + (number > 0)}" + ("" if number == 1 else f",{number}")


def _summary(hunks: Sequence[str]) -> str:
    """What differs: offsets (the padding before members) or more, and where."""
    if not hunks:
        return "the same"
    place, more = "", []
    for line in hunks:
        if found := HUNK.match(line):
            head = line[found.end() :].strip(" {\n")
            called = re.search(r"(\w+)\(", head)
            place = called.group(1) if called else head
        elif not PADDING.match(line) and place not in more:
            more.append(place)
    return f"offsets, and {', '.join(more)}" if more else "only offsets"


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
