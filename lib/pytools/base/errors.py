"""The exception that ends a tool with one line for the person at the prompt, and words for it."""
from __future__ import annotations

import errno
import os

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Iterable

__all__ = ["Failure", "Usage", "did_you_mean", "error_text"]


class Failure(Exception):
    """What failed, why most likely, and what to do, in one line; exit status 1.

    ``detail`` is longer text (a compiler's or the verifier's) that is printed
    above the line.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class Usage(Failure):
    """An option or argument that can't be honoured; exit status 2."""


def did_you_mean(
    word: str, names: Iterable[str], like: float = 0.6, most: int = 1, behind: str = ""
) -> str:
    """A hint that names at most so many of the names that are like a word, from 0 (any) to 1 (the
    same), each with what stands ``behind`` it; empty if none is.

    >>> did_you_mean("prnt", ["print", "exit"], behind="()")
    'did you mean print()?'
    """
    import difflib  # an error has time

    found = difflib.get_close_matches(word, list(names), most, like)
    return f"did you mean {' or '.join(name + behind for name in found)}?" if found else ""


def error_text(number: int) -> str:
    """The name and the meaning of an errno.

    >>> error_text(1)
    'EPERM: Operation not permitted'
    """
    return f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"
