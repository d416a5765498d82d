"""The command of -c: started, and held until all is attached."""
from __future__ import annotations

import shlex

from pytools.base.errors import Failure
from pytools.base.held import Held

__all__ = ["held"]


def held(line: str) -> Held:
    """A command whose words are split as a shell does, without one. Raises Failure if there is no
    such program."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise Failure(f"-c {line!r}: {error}") from None
    if not words:
        raise Failure("-c: the command is empty")
    try:
        return Held(words)
    except Failure as error:
        raise Failure(f"-c: {error}") from None
