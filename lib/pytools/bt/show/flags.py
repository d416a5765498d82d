"""The kernel's flags of memory allocations (gfp_t) by name, for %gr."""
from __future__ import annotations

import functools
import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure

if TYPE_CHECKING:
    from typing import List, Tuple

__all__ = ["gfp_text"]

# Its format has the kernel's own list: { number, "name" }, the flags of several bits first.
TRACEPOINT = "kmem/kmalloc"
_FLAG = re.compile(r'\{([^{}"]+), *"(\w+)" *\}')
_CAST = re.compile(r"\(\s*(?:unsigned long|gfp_t|unsigned int)\s*\)")


def gfp_text(number: int) -> str:
    """The names of flags, with | between them, and what has none as a number."""
    if not number:
        return "0"
    names = []
    for bits, name in _flags():
        if bits and number & bits == bits:
            names.append(name)
            number &= ~bits
    return "|".join(names + [f"{number:#x}"] * bool(number))


@functools.lru_cache(maxsize=None)
def _flags() -> List[Tuple[int, str]]:
    from pytools.facts.kernel import running

    try:
        with open(f"{running().tracefs}/events/{TRACEPOINT}/format") as file:
            text = file.read()
    except (OSError, Failure):
        return []
    found = []
    for expression, name in _FLAG.findall(text):
        bits = _value(expression)
        if bits is not None:
            found.append((bits, name))
    return found


def _value(expression: str) -> int | None:
    """The value of C's constants with |, & and ~ between them: numbers only, no names."""
    text = re.sub(r"(?<=[0-9a-fA-F])[uUlL]+\b", "", _CAST.sub("", expression))
    if not re.fullmatch(r"[0-9a-fA-Fx|&~<()\s]+", text):
        return None
    try:
        return int(eval(text, {"__builtins__": {}})) & (1 << 64) - 1
    except (SyntaxError, TypeError, ValueError, NameError):
        return None
