"""Kinds of probes: their names in every spelling, and how many fields each has."""
from __future__ import annotations

import re

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import did_you_mean
from pytools.bt.tree import AttachPoint
from pytools.bt.wrong import Wrong

if TYPE_CHECKING:
    from pytools.bt.tree import Span

__all__ = ["BY_NAME", "KINDS", "Kind", "attach_point", "full_name", "scan", "split"]


class Kind(NamedTuple):
    """``fewest`` and ``most`` fields behind the name. Those of ``path`` name a file, which may have
    a slash."""

    name: str
    others: tuple[str, ...]
    fewest: int
    most: int
    path: bool = False


KINDS = (
    Kind("begin", (), 0, 0),
    Kind("end", (), 0, 0),
    Kind("self", (), 2, 2),
    Kind("interval", ("i",), 1, 2),
    Kind("profile", ("p",), 1, 2),
    Kind("tracepoint", ("t",), 2, 2),
    Kind("rawtracepoint", ("rt",), 1, 2),
    Kind("kprobe", ("k",), 1, 2),
    Kind("kretprobe", ("kr",), 1, 2),
    Kind("fentry", ("f", "kfunc"), 1, 3),
    Kind("fexit", ("fr", "kretfunc"), 1, 3),
    Kind("uprobe", ("u",), 2, 3, True),
    Kind("uretprobe", ("ur",), 2, 3, True),
    Kind("usdt", ("U",), 2, 3, True),
    Kind("software", ("s",), 1, 2),
    Kind("hardware", ("h",), 1, 2),
    Kind("watchpoint", ("w",), 3, 3),
    Kind("asyncwatchpoint", ("aw",), 3, 3),
    Kind("iter", ("it",), 1, 2, True),
    Kind("test", (), 1, 1),
    Kind("bench", (), 1, 1),
)
_NAMES = {word: kind for kind in KINDS for word in (kind.name, *kind.others)}
BY_NAME = {kind.name: kind for kind in KINDS}

_LONGEST = 8192  # two paths
_WORD = re.compile(r"(?:[A-Za-z_]\w*=)?([A-Za-z_*?\[\]]+)", re.ASCII)
_REST = re.compile(r'(?:[^\s{,"]|"(?:[^"\\]|\\[\s\S])*(?:"|$))*')
_REST_WITHOUT_PATH = re.compile(r'(?:[^\s{,"/]|"(?:[^"\\]|\\[\s\S])*(?:"|$))*')
_GIVEN_NAME = re.compile(r"[A-Za-z_]\w*=(?=.)", re.ASCII)


def scan(text: str, position: int) -> int:
    """Where the attach point ends that begins at a position: before a blank, a comma, a brace, or
    the slash of a predicate. Raises Wrong if it is too long."""
    word = _WORD.match(text, position)
    name = word[1] if word else ""
    kind = _NAMES.get(name) or _NAMES.get(name.lower())
    path = "*" in name or (kind is not None and kind.path)
    found = (_REST if path else _REST_WITHOUT_PATH).match(text, position, position + _LONGEST)
    assert found
    if found.end() == position + _LONGEST:
        raise Wrong((position, found.end()), f"an attach point of more than {_LONGEST} characters")
    return found.end()


def full_name(word: str) -> str:
    """The name of a kind by any of its names; "" if there is none."""
    kind = _NAMES.get(word) or _NAMES.get(word.lower())
    return kind.name if kind else ""


def split(text: str) -> list[str]:
    """The parts of an attach point between colons, quotes taken off."""
    if '"' not in text:
        return text.split(":")
    parts = [""]
    for piece in re.finditer(r'"((?:[^"\\]|\\[\s\S])*)"?|:|[^":]+', text):
        if piece[0] == ":":
            parts.append("")
        else:
            inner = piece[1]
            parts[-1] += piece[0] if inner is None else re.sub(r"\\([\s\S])", r"\1", inner)
    return parts


def attach_point(at: Span, text: str) -> AttachPoint:
    """An attach point from its text. Raises Wrong if there is no such kind of probe."""
    text = _GIVEN_NAME.sub("", text, count=1)
    first, *fields = split(text)
    if set(first) & set("*?[$"):  # ``expand`` knows what it stands for
        return AttachPoint(at, text, first, tuple(fields))
    kind = _NAMES.get(first) or _NAMES.get(first.lower())
    if kind is None:
        raise Wrong(at, f"Invalid probe type: {first[:80]}", _nearest(first))
    return AttachPoint(at, text, kind.name, tuple(fields))


def _nearest(word: str) -> str:
    names = [name for kind in KINDS for name in (kind.name, *kind.others) if len(name) > 2]
    names += ["config", "import", "macro", "struct", "union", "enum", "typedef", "let"]
    return did_you_mean(word.lower(), names, most=2)
