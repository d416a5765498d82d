"""Attach points with parameters in them ($1), and kinds with patterns (k*:vfs_read)."""
from __future__ import annotations

import re
from fnmatch import fnmatchcase

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.kinds import BY_NAME, attach_point
from pytools.bt.wrong import Wrong

if TYPE_CHECKING:
    from typing import Iterable, Sequence

    from pytools.bt.tree import AttachPoint

__all__ = ["KERNEL", "USER", "expand", "kinds_of"]

# What a pattern may stand for: kinds that a listing shows.
KERNEL = ("kprobe", "tracepoint", "software", "hardware", "fentry", "rawtracepoint")
USER = ("uprobe", "usdt")
_PARAMETER = re.compile(r'"(?:[^"\\]|\\[\s\S])*"?|(\$)([1-9][0-9]*)?')


def expand(points: Iterable[AttachPoint], parameters: Sequence[str]) -> list[AttachPoint]:
    """The same without parameters and patterns in their kinds. Raises Wrong."""
    found: list[AttachPoint] = []
    for point in points:
        if "$" in point.text:
            point = attach_point(point.at, _put_in(point, parameters))
        if point.kind in BY_NAME:
            found.append(point)
            continue
        kinds = kinds_of(point)
        if not kinds:
            raise Wrong(point.at, f"No probe type matched for {point.kind}")
        rest = point.text.partition(":")[2] if point.fields else point.text
        found += [attach_point(point.at, f"{kind}:{rest}") for kind in kinds]
    return found


def _put_in(point: AttachPoint, parameters: Sequence[str]) -> str:
    """The text with the parameters that it names outside of quotes."""

    def value(piece: re.Match[str]) -> str:
        if not piece[1]:  # a text in quotes
            return piece[0]
        if not piece[2]:
            after = point.text[piece.end() : piece.end() + 1]
            raise Wrong(
                point.at,
                f"invalid trailing character for positional param: {after or 'none'}. Try quoting "
                f'this entire part if this is intentional e.g. "${after}".',
            )
        number = int(piece[2][:9])
        return parameters[number - 1] if number <= len(parameters) else ""

    text = _PARAMETER.sub(value, point.text)
    if "\n" in text or "\0" in text:
        raise Wrong(point.at, "a parameter in an attach point has a line's end in it")
    return text


def kinds_of(point: AttachPoint) -> list[str]:
    """The kinds that a pattern stands for: those of a file if there is a path behind it."""
    among = USER if point.fields and "/" in point.fields[0] else KERNEL
    pattern = point.kind if point.fields else "*"
    return [kind for kind in among if fnmatchcase(kind, pattern)]
