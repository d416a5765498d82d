"""Attaching to as many probes as a user's patterns match: which they are, how far it is, and what
is refused."""
from __future__ import annotations

import argparse

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.domains import probes
from pytools.domains.programs import files_of
from pytools.facts.kernel import running
from pytools.load.multi_attach import Target
from pytools.load.program import Program
from pytools.show.output import complain
from pytools.tool.waiting import Progress

if TYPE_CHECKING:
    from typing import Callable, Mapping, Sequence


__all__ = ["attach", "detach", "find"]

MOST_NAMED = 10  # of those that can't be attached to


def find(
    options: argparse.Namespace, patterns: Sequence[str], regexp: bool, say: Callable[[str], None]
) -> tuple[list[str], list[Target]]:
    """What the patterns stand for: as ``probes.find_all``. Libraries are those of the processes
    that the options name; ``say`` is told which of them do not have theirs."""
    return probes.find_all(
        running(), patterns, regexp, lambda name: files_of(name, options.pid, say)
    )


def attach(
    options: argparse.Namespace,
    program: Program,
    labels: Mapping[str, bool],
    names: Sequence[str],
    targets: Sequence[Target],
    what: str,
) -> None:
    """Attach a program, and its PROBES of those labels, one after the other, to the targets, each of
    which has the number of its name; or to where they return, if the label stands for True. Says
    which of them the kernel refuses; raises Failure where it refuses all, with ``what`` there is
    nothing to do then, and KeyboardInterrupt when the user does not want to wait."""
    program.attach()
    progress, total = _progress(options, "attached to"), len(targets) * len(labels)
    refused: list[Target] = []
    for number, (label, returns) in enumerate(labels.items()):
        before = number * len(targets) + len(refused)
        left = [target for target in targets if target not in refused]

        def tell(done: int, _: int, before: int = before) -> None:
            progress(before + done, total)

        if left:
            refused += program.attach_many(label, left, tell, returns)
    name_refused(options, refused, names, what)


def detach(options: argparse.Namespace, program: Program) -> None:
    """Detach it: one after the other, if that is how it was attached."""
    program.detach(_progress(options, "detached from", ends=False))


def _progress(options: argparse.Namespace, text: str, ends: bool = True) -> Callable[..., None]:
    """Tells a person how far it is, if one is there; ``ends`` says that Ctrl-C ends it."""
    if options.waiting is None:
        return lambda done, total: None
    return Progress(options.tool, text, options.waiting if ends else None)


def name_refused(
    options: argparse.Namespace, refused: Sequence[Target], names: Sequence[str], what: str
) -> None:
    """Say which were not attached to. Raises Failure where that is all: there is nothing to
    ``what`` then."""
    missing = sorted({names[target.number] for target in refused})
    if missing:
        some = ", ".join([*missing[:MOST_NAMED], *["..."][: len(missing) > MOST_NAMED]])
        if options.waiting is not None:
            what = f"the kernel lets nobody attach to {len(missing)} of them: {some}"
            complain(f"{options.tool}: {what}")
        if len(missing) == len(names):
            raise Failure(f"there is nothing to {what}")
