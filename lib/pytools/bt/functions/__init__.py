"""The builtins and functions of the language, in groups: of each, its types, its C and its plan.

A function has one or two entries: ``checks`` gives a call its type, ``emits`` (or ``into``,
``places``, ``tail``, ``statement``) makes C of what that gave. Both stand together."""
from pytools.bt.functions import (
    arguments, known, maps, network, output, process, stacks, symbols, text, time,
)  # fmt: skip

__all__ = ["LOADED"]

LOADED = (arguments, known, maps, network, output, process, stacks, symbols, text, time)
