"""What the attachments of a program share: its programs, the numbers of its probes, patterns."""
from __future__ import annotations

import fnmatch
import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.load.attach import Attachment

if TYPE_CHECKING:
    from typing import Iterable, Mapping

    from pytools.bt.plan import Plan, Point
    from pytools.bt.wrong import Wrong
    from pytools.compile.image import Image, ProgramSpec
    from pytools.facts.elf import File, Function
    from pytools.facts.kernel import Kernel
    from pytools.load.loader import Loaded
    from pytools.load.multi_attach import Target

    from typing import Callable

__all__ = ["Attaching", "Missing", "Stale", "is_pattern", "is_unsafe", "matching", "place_of"]

PATTERN = re.compile(r"[*?[\]]")
OFF = "off"  # the kind of a point that is not wanted
UNSAFE = ("arch_cpu_idle", "default_idle", "bpf_dispatcher_xdp_func")
SESSION = "kprobe.session"  # the kind of a program for functions and their returns (sessions.py)
MANY = "probes"  # the kind of a program that serves any number of probes (multi_attach.py)


class Missing(Failure):
    """A point that is not there."""


class Stale(Exception):
    """A program was made for what is not there any more, and has to be made anew."""


class Attaching:
    """``probes`` are the texts of all probes by number: those of the plan, then those that patterns
    stand for. ``pid`` is a process that user-space probes are about, -1 for all; ``warn`` is told
    what is missing, and where it stands. Files are looked up as the process ``look_in`` has them:
    one that has not begun yet has none."""

    def __init__(
        self,
        plan: Plan,
        image: Image,
        loaded: Loaded,
        settings: Mapping[str, int],
        running: Kernel,
        pid: int,
        warn: Callable[[Wrong], None],
        look_in: int = -1,
    ) -> None:
        self.probes = [point.text for point in plan.points]
        self.plan = plan
        self.running = running
        self.pid = pid
        self.look_in = look_in
        self.attachment = Attachment()
        self._probes = self._programs = 0  # of patterns, so far
        self._specs = {program.name: program for program in image.programs}
        self._loaded = loaded
        self._settings = settings
        self._warn = warn
        self._files: list[File] = []
        self._by_path: dict[tuple[str, int], list[File]] = {}
        self._functions: dict[File, dict[str, list[Function]]] = {}

    def spec(self, program: str) -> ProgramSpec:
        """A program of the image."""
        return self._specs[program]

    def descriptor(self, program: str) -> int:
        """The descriptor of a loaded program."""
        return next(fd for spec, fd in self._loaded.programs if spec.name == program)

    def is_for_many(self, point: Point) -> bool:
        """Whether the point's program serves any number of probes."""
        return self.spec(point.programs[0]).kind in (MANY, SESSION)

    def files(self, path: str, look_in: int, find: Callable[[str, int], list[File]]) -> list[File]:
        """The files that a path stands for: found once, and open until all is attached."""
        key = (path, look_in)
        if key not in self._by_path:
            self._by_path[key] = find(path, look_in)
            self._files += self._by_path[key]
        return self._by_path[key]

    def functions(self, file: File, name: str) -> list[Function]:
        """The functions of that name, which one of the points has. A file is read once for all."""
        if file not in self._functions:
            wanted = {point.target.rpartition(":")[2] for point in self.plan.points}
            found: dict[str, list[Function]] = {}
            for function in file.functions():
                if function.name in wanted and not function.indirect:
                    found.setdefault(function.name, []).append(function)
            self._functions[file] = found
        return self._functions[file].get(name, [])

    def close_files(self) -> None:
        for file in self._files:
            file.close()
        self._files.clear()
        self._by_path.clear()
        self._functions.clear()

    def warn(self, point: Point | None, what: str) -> None:
        """Say what is the matter with a point, or (None) with several."""
        from pytools.bt.wrong import Wrong  # where nothing is missing, nobody needs it

        self._warn(Wrong(place_of(point) if point else None, what))

    def attach_many(
        self, point: Point, targets: list[Target], names: list[str], program: str = ""
    ) -> int:
        """Attach the (first) program of a point to all of these; ``names`` are what stands behind
        the kind in their texts. How many were attached."""
        from pytools.load import multi_attach

        self.keep_limits(point, len(targets), program or point.programs[0])
        first = len(self.probes)
        targets = [target._replace(number=first + n) for n, target in enumerate(targets)]
        self.probes += [f"{point.kind}:{name}" for name in names]
        refused = multi_attach.attach_many(
            self.attachment, self._loaded, self.spec(program or point.programs[0]), self._settings,
            targets,
            self.running, lambda done, total: None, point.kind in ("kretprobe", "uretprobe"),
            self.pid,
        )  # fmt: skip
        return len(targets) - len(refused)

    def keep_limits(self, point: Point, count: int, program: str) -> None:
        """Raise Wrong or Failure if so many more probes are too many. ``probe`` and ``func`` take
        bpftrace a program for each; here, one may do, but what the kernel has to bear is the
        same."""
        self._probes += count
        told = any(name == "INDEX" for _, name in self.spec(program).settings)
        self._programs += count if told else 1
        most = int(self.plan.config.get("max_bpf_progs", self._programs))
        if self._programs > most:
            from pytools.bt.wrong import Wrong

            raise Wrong(
                place_of(point),
                f"Your program is trying to generate more than {self._programs} BPF programs, "
                f"which exceeds the current limit of {most}",
                "You can increase the limit through the BPFTRACE_MAX_BPF_PROGS environment "
                "variable.",
            )
        most = int(self.plan.config.get("max_probes", self._probes))
        if self._probes > most:
            raise Failure(
                f"Can't attach to {self._probes} probes because it exceeds the current limit of "
                f"{most} probes. BPFTRACE_MAX_PROBES in the environment, or max_probes in the "
                "config block, raises it; each call of what is traced takes longer then"
            )


def place_of(point: Point) -> tuple[int, int] | None:
    """Where a point stands in the text, if that is known."""
    return (point.at[0], point.at[1]) if point.at else None


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Those of some names that match a pattern with *, ? and [], sorted."""
    found = re.compile(fnmatch.translate(pattern)).match
    return sorted(name for name in names if found(name))


def is_unsafe(function: str) -> bool:
    """Whether a kernel that lets a function be traced may not survive it. The kernel's own test of
    many kprobes leaves these out: tools/testing/selftests/bpf/prog_tests/kprobe_multi_test.c."""
    return function.startswith("rcu_") or function in UNSAFE


def is_pattern(text: str) -> bool:
    """Whether a text stands for several names."""
    return bool(PATTERN.search(text))
