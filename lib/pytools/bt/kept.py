"""What a program became, kept in the cache: its image and its plan. What is found there needs no
parser, no types and no compiler.

Parameters ($1, $2, ...) may be numbers that are put in when the image is loaded, or a part of the
text. Which of them are a part of it, is known when the program was read once: that is an entry of
its own, and the image's name has these parameters in it.
"""
from __future__ import annotations

import json
import os

from pytools import __version__
from pytools.base import cache
from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.bt.plan import Plan
from pytools.bt.settings import parameter
from pytools.compile.image import Image
from pytools.load.program import bcc_state, own_state

if TYPE_CHECKING:
    from typing import Callable, Sequence

    from pytools.facts.kernel import Kernel

__all__ = ["Made", "Source", "is_number", "kept"]

ROOMS = ("facts", "compile", "bt")


class Source(NamedTuple):
    """All that a program's image and plan follow from, beside the kernel: its text, its name in
    messages, its parameters, and ``options`` (as text)."""

    text: str
    name: str
    parameters: Sequence[str]
    options: str


class Made(NamedTuple):
    """What became of it. ``numbers`` are the parameters (from 1 on) that are settings and nothing
    else: others are a part of the text."""

    image: Image
    plan: Plan
    numbers: Sequence[int]


def kept(
    source: Source,
    running: Kernel,
    make: Callable[[], Made],
    use_cache: bool,
    say: Callable[[str], None],
    anew: bool = False,
) -> Made:
    """What became of a program when it was started before, or (``anew``: in any case) what ``make``
    makes of it, which is kept then. ``say`` is told which."""
    if not use_cache:
        return make()
    first = cache.key(
        "a program of bt", __version__, own_state(ROOMS), bcc_state(), os.uname().machine,
        running.identity(), running.headers, source.text, source.name, source.options,
        str(len(source.parameters)),
    )  # fmt: skip
    with cache.Cache(cache.folder()) as entries:
        numbers = _numbers(entries.load(first))
        if numbers is not None and not anew:
            name = _name(first, source, numbers)
            made = _made(entries.load(name), numbers)
            if made is not None:
                say(f"image {name[:12]} from {entries.path}")
                return made
        running.cache = entries
        made = make()
        running.cache = None
        name = _name(first, source, made.numbers)
        plan = made.plan.dump()
        entries.store(name, b"%d\n" % len(plan) + plan + made.image.dump())
        entries.store(first, json.dumps(list(made.numbers)).encode())
        if entries.why_not:
            say(f"not cached: {entries.why_not}")
        else:
            say(f"image {name[:12]} kept in {entries.path}")
        return made


def _numbers(data: bytes | None) -> list[int] | None:
    if data is None:
        return None
    try:
        found = json.loads(data)
    except ValueError:
        return None
    sound = isinstance(found, list) and all(isinstance(number, int) for number in found)
    return found if sound else None


def _name(first: str, source: Source, numbers: Sequence[int]) -> str:
    """The name of the image: with the parameters that are a part of it."""
    texts = [
        "" if place in numbers and is_number(text) else f"={text}"
        for place, text in enumerate(source.parameters, 1)
    ]
    return cache.key(first, *texts)


def is_number(text: str) -> bool:
    """Whether a parameter can be a setting: a number of 64 bits with a sign."""
    try:
        return -(1 << 63) <= parameter(text, 0) < 1 << 63
    except Failure:
        return False


def _made(data: bytes | None, numbers: Sequence[int]) -> Made | None:
    if data is None:
        return None
    try:
        size, _, rest = data.partition(b"\n")
        plan = Plan.parse(rest[: int(size)])
        return None if plan is None else Made(Image.parse(rest[int(size) :]), plan, numbers)
    except ValueError:
        return None
