"""Attaching to as many probes as a user's patterns match: which they are, how far it is, and what
is refused."""
from __future__ import annotations

import argparse

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.domains import probes
from pytools.domains.programs import files_of
from pytools.facts.differences import has_uprobe_multi, links_see_threads
from pytools.facts.kernel import running
from pytools.load.multi_attach import Target
from pytools.load.program import Program
from pytools.show.output import complain
from pytools.tool.waiting import Progress

if TYPE_CHECKING:
    from typing import Callable, Sequence


__all__ = ["Part", "attach", "detach", "find", "only_wanted"]

MOST_NAMED = 10  # of those that can't be attached to


def find(
    options: argparse.Namespace, patterns: Sequence[str], regexp: bool, say: Callable[[str], None]
) -> tuple[list[str], list[Target]]:
    """What the patterns stand for: as ``probes.find_all``. Libraries are those of the processes
    that the options name; ``say`` is told which of them do not have theirs."""
    return probes.find_all(
        running(), patterns, regexp, lambda name: files_of(name, options.pid, say)
    )


class Part(NamedTuple):
    """The PROBES of a program with that label, and what they are attached to: targets, each of
    which has the number of its name, or where they return."""

    label: str
    targets: Sequence[Target]
    returns: bool = False


def attach(
    options: argparse.Namespace,
    program: Program,
    names: Sequence[str],
    parts: Sequence[Part],
    what: str,
    stacks: bool = False,
) -> None:
    """Attach the PROBES of a program, part by part, after ``program.attach``; ``stacks`` says that
    they take the kernel's stack. Says what the kernel refuses; raises Failure where it refuses all:
    there is nothing to ``what`` then. Raises KeyboardInterrupt when the user does not want to
    wait."""
    progress = _progress(options, "attached to")
    total, begun = sum(len(part.targets) for part in parts), 0
    refused: list[Target] = []
    pid = -1
    # Others do not get into the kernel where they call the same function.
    if options.pid is not None and len(options.pid) == 1 and links_see_threads(running()):
        (pid,) = options.pid
    for label, targets, returns in parts:
        left = [target for target in targets if target not in refused]
        before = begun + len(targets) - len(left)

        def tell(done: int, _: int, before: int = before) -> None:
            progress(before + done, total)

        if left:
            refused += program.attach_many(label, left, tell, returns, stacks, pid)
        begun += len(targets)
    name_refused(options, refused, names, what)


def only_wanted(options: argparse.Namespace, targets: Sequence[Target]) -> bool:
    """Whether the kernel itself runs what is attached to the targets for the tasks alone that the
    filters want: they are one process, and the targets functions and probes of programs."""
    wanted, kernel = options.wanted, running()
    if set(wanted.settings) != {"PID"} or wanted.entries or wanted.values or wanted.pinned:
        return False
    links = has_uprobe_multi(kernel) and links_see_threads(kernel)
    return links and not wanted.numbers and all(target.file is not None for target in targets)


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
            refusal = f"the kernel lets nobody attach to {len(missing)} of them: {some}"
            complain(f"{options.tool}: {refusal}")
        if len(missing) == len(names):
            raise Failure(f"there is nothing to {what}")
