"""The exception that ends a tool with one line for the person at the prompt."""
from __future__ import annotations

import errno
import os

__all__ = ["Failure", "Usage", "error_text"]


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


def error_text(number: int) -> str:
    """The name and the meaning of an errno.

    >>> error_text(1)
    'EPERM: Operation not permitted'
    """
    return f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"
