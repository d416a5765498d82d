"""Attaching to as many probes as a user's patterns match: how far it is, and what is refused."""
from __future__ import annotations

import argparse

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.load.multi_attach import Target
from pytools.load.program import Program
from pytools.show.output import complain
from pytools.tool.waiting import Progress

if TYPE_CHECKING:
    from typing import Callable, Sequence


__all__ = ["attach", "detach"]

MOST_NAMED = 10  # of those that can't be attached to


def attach(
    options: argparse.Namespace,
    program: Program,
    label: str,
    names: Sequence[str],
    targets: Sequence[Target],
) -> None:
    """Attach a program, and its PROBES of that label to the targets, each of which has the number
    of its name. Says which of them the kernel refuses; raises Failure where it refuses all, and
    KeyboardInterrupt when the user does not want to wait."""
    program.attach()
    refused = program.attach_many(label, targets, _progress(options, "attached to"))
    name_refused(options, refused, names)


def detach(options: argparse.Namespace, program: Program) -> None:
    """Detach it: one after the other, if that is how it was attached."""
    program.detach(_progress(options, "detached from", ends=False))


def _progress(options: argparse.Namespace, text: str, ends: bool = True) -> Callable[..., None]:
    """Tells a person how far it is, if one is there; ``ends`` says that Ctrl-C ends it."""
    if options.waiting is None:
        return lambda done, total: None
    return Progress(options.tool, text, options.waiting if ends else None)


def name_refused(
    options: argparse.Namespace, refused: Sequence[Target], names: Sequence[str]
) -> None:
    """Say which were not attached to. Raises Failure where that is all."""
    missing = sorted({names[target.number] for target in refused})
    if missing:
        some = ", ".join([*missing[:MOST_NAMED], *["..."][: len(missing) > MOST_NAMED]])
        if options.waiting is not None:
            what = f"the kernel lets nobody attach to {len(missing)} of them: {some}"
            complain(f"{options.tool}: {what}")
        if len(missing) == len(names):
            raise Failure("there is nothing to count")
