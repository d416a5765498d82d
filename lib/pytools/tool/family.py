"""The command of --exec and its children, while a tool traces them (bpf/family.h)."""
from __future__ import annotations

import os

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.base.held import Held
from pytools.domains.signals import signal_name
from pytools.facts.kernel import in_first_pid_namespace

if TYPE_CHECKING:
    from typing import Callable, Mapping, Sequence

    from pytools.load.maps import Map

__all__ = ["Family"]

# How often it is asked whether all children have ended, when the command itself has.
LOOK_SECONDS = 0.02
FOLLOWED, NOT_FOLLOWED = range(2)  # as in bpf/family.h


class Family:
    """A command, and all that descend from it. It is held until ``release``. ``say`` is told how it
    ended, and what could not be followed. Raises Failure for what can't be run.

    In BPF, a map of processes is kept when one forks and when its task is freed. A cgroup of their
    own would do it as well, but it would take the command out of the cgroup that it belongs to,
    with its limits and its share of the CPUs, and would be left if the tool were killed."""

    def __init__(self, words: Sequence[str], say: Callable[[str], None]) -> None:
        if not in_first_pid_namespace():
            raise Failure(
                "cannot follow a command in a PID namespace other than the first (in a container): "
                "start the tool outside, or name the container's processes with --pidns"
            )
        self._say = say
        self._held = Held(words)
        self._maps: Mapping[str, Map] = {}
        self._running = False
        self._reaped = False

    @property
    def descriptor(self) -> int:
        """It is readable when the command has ended, and must be reaped; -1 from then on."""
        return -1 if self._reaped else self._held.ended

    @property
    def seconds(self) -> float | None:
        """After how long ``has_ended`` is to be asked again; None until the command is reaped."""
        return LOOK_SECONDS if self._reaped else None

    def enter(self, maps: Mapping[str, Map]) -> None:
        """Let a program that is loaded, and not yet attached, know the command."""
        self._maps = maps
        maps["family"].add(self._held.pid)

    def release(self) -> None:
        """Let the command run. Raises Failure where the kernel does not run it."""
        if not self._running:
            self._running = True
            self._held.release()

    def pids(self) -> set[int]:
        """The processes: all that live, and some that have ended."""
        return {pid for pid, _ in self._maps["family"].items()}

    def reap(self) -> None:
        """The command has ended: say how, if not well."""
        self._reaped = True
        status = self._held.reap()
        if status < 0:
            self._say(f"the command was killed by {signal_name(-status)}")
        elif status:
            self._say(f"the command ended with status {status}")

    def has_ended(self) -> bool:
        """Whether all of its children have ended, too."""
        counts = self._maps["family_counts"]
        before = counts.total(FOLLOWED)
        # One that a process forks while they are read may be missing, if that one ends meanwhile.
        return not any(map(_lives, self.pids())) and counts.total(FOLLOWED) == before

    def end(self) -> None:
        """Nobody traces it any more: end the command, if it has not ended."""
        if self._maps and (lost := self._maps["family_counts"].total(NOT_FOLLOWED)):
            self._say(f"{lost} children were not followed: too many lived at once")
        self._maps = {}
        self._held.end()


def _lives(pid: int) -> bool:
    """Whether a process has not ended: one whose parent does not ask for its status has."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
        # The first thread may have ended before others.
        return state not in (b"Z", b"X") or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (OSError, IndexError):
        return False
