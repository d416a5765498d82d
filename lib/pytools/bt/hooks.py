"""A plan's points to attachments: what is there is looked up, then programs are attached in an
order in which those of one hook run as they stand in the script."""
from __future__ import annotations

import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.facts import kernel as kernels
from pytools.load import attach
from pytools.load.attach import Attachment

if TYPE_CHECKING:
    from typing import Callable, Mapping

    from pytools.bt.plan import Plan, Point
    from pytools.bt.wrong import Wrong
    from pytools.compile.image import Image, ProgramSpec
    from pytools.facts.elf import File
    from pytools.facts.kernel import Kernel
    from pytools.load.loader import Loaded
    from pytools.load.multi_attach import Target

__all__ = ["Hooks", "RUN_BY_US"]

# What the tool runs itself: nothing is attached.
RUN_BY_US = ("begin", "end", "interval", "self")
# The kernel runs these in the reverse of the order in which they were attached.
REVERSED = ("kprobe", "uprobe", "uretprobe", "usdt", "fentry", "fexit")
PATTERN = re.compile(r"[*?[\]]")


class Missing(Failure):
    """A point that is not there."""


class Hooks:
    """The attachments of a program. ``probes`` are the texts of all probes by number: those of the
    plan, then those that patterns stand for. ``pid`` is a process that user-space probes are about,
    -1 for all; ``warn`` is told what is missing, and where it stands."""

    def __init__(
        self,
        plan: Plan,
        image: Image,
        loaded: Loaded,
        settings: Mapping[str, int],
        running: Kernel,
        pid: int,
        warn: Callable[[Wrong], None],
    ) -> None:
        self.probes = [point.text for point in plan.points]
        self.count = 0
        self._plan = plan
        self._specs = {program.name: program for program in image.programs}
        self._loaded = loaded
        self._settings = settings
        self._running = running
        self._pid = pid
        self._warn = warn
        self.attachment = Attachment()
        self._files: list[File] = []

    def attach(self) -> None:
        """Attach all; raises Failure, with nothing left attached."""
        try:
            forward = [point for point in self._plan.points if point.kind not in REVERSED]
            backward = [point for point in self._plan.points if point.kind in REVERSED]
            for point in [*forward, *reversed(backward)]:
                try:
                    self.count += self._attach(point)
                except Missing as missing:
                    self._not_there(point, str(missing))
        except BaseException:
            self.detach()
            raise
        finally:
            for file in self._files:
                file.close()
        if not self.count:
            raise Failure("Attachment failed for all probes.")

    def _not_there(self, point: Point, why: str) -> None:
        from pytools.bt.wrong import Wrong

        policy = point.missing or str(self._plan.config.get("missing_probes", "error"))
        at = (point.at[0], point.at[1]) if point.at else None
        if policy == "error":
            hint = "If this is expected, set the 'missing_probes' config variable to 'warn'."
            raise Wrong(at, why, hint)
        if policy == "warn":
            self._warn(Wrong(at, f"{why} Skipping."))

    def _warn_of(self, point: Point, what: str) -> None:
        from pytools.bt.wrong import Wrong

        self._warn(Wrong((point.at[0], point.at[1]) if point.at else None, what))

    def detach(self) -> None:
        self.attachment.detach()

    def descriptor(self, program: str) -> int:
        """The descriptor of a loaded program."""
        return next(fd for spec, fd in self._loaded.programs if spec.name == program)

    def _spec(self, point: Point) -> ProgramSpec:
        return self._specs[point.programs[0]]

    # A point at a time: how many probes it stands for.

    def _attach(self, point: Point) -> int:
        if point.kind in RUN_BY_US:
            return 1
        if point.kind in ("profile", "software", "hardware"):
            return self._sample(point)
        if point.kind in ("uprobe", "uretprobe", "usdt"):
            from pytools.bt import user_hooks  # not for the kernel's

            return user_hooks.attach_point(self, point)
        if point.kind in ("kprobe", "kretprobe"):
            return self._function(point)
        program = self.descriptor(point.programs[0]) if self._spec(point).kind != "probes" else -1
        if point.kind == "rawtracepoint":
            attach.raw_tracepoint(self.attachment, point.target, program)
            return 1
        if point.kind in ("fentry", "fexit"):
            attach.with_types(self.attachment, self._spec(point), program)
            return 1
        if point.kind == "tracepoint":
            return self._tracepoint(point, program)
        raise Failure(f"{point.text}: {point.kind} probes are not supported")

    def _sample(self, point: Point) -> int:
        from pytools.load import perf_events

        program, pid = self.descriptor(point.programs[0]), point.pid or self._pid
        if point.kind == "profile":
            perf_events.sample(
                self.attachment, program, point.text, perf_events.SOFTWARE["cpu-clock"].number,
                point.period, point.frequency, pid=pid,
            )  # fmt: skip
            return 1
        hardware = point.kind == "hardware"
        events = perf_events.HARDWARE if hardware else perf_events.SOFTWARE
        if point.target not in events:
            raise Missing(f"No matches for {point.kind} {point.target}.")
        event = events[point.target]
        perf_events.sample(
            self.attachment, program, point.text, event.number, point.period or event.period,
            hardware=hardware, pid=pid,
        )  # fmt: skip
        return 1

    # The kernel.

    def _tracepoint(self, point: Point, program: int) -> int:
        if program < 0 or PATTERN.search(point.target):
            return self._tracepoints(point)
        category, _, name = point.target.partition(":")
        if not self._running.has_tracepoint(category, name):
            raise Missing(f"No matches for tracepoint {point.target}.")
        number = self._running.tracepoint_id(category, name)
        cpu = kernels.online_cpus()[0]
        attach.tracepoint(self.attachment, point.target, program, number, cpu)
        return 1

    def _tracepoints(self, point: Point) -> int:
        from pytools.domains import probes
        from pytools.load.multi_attach import Target

        found = matching(probes.tracepoints(self._running), point.target)
        if not found:
            raise Missing(f"No matches for tracepoint {point.target}.")
        return self.attach_many(point, [Target("tracepoint", name, 0) for name in found], found)

    def _function(self, point: Point) -> int:
        module, _, name = point.target.rpartition(":")
        returns = point.kind == "kretprobe"
        if not self._running.has_kprobes:
            raise Failure(
                f"cannot attach to function {name}: this kernel has no kprobes "
                "(CONFIG_KPROBE_EVENTS)"
            )
        if self._spec(point).kind == "probes":
            return self._functions(point, module, name)
        symbol = self._running.attachable(name) if not point.offset else name
        if symbol is None:
            self._warn_of(
                point,
                f"{name} is not traceable (either non-existing, inlined, or marked as "
                '"notrace"); attaching to it will likely fail',
            )
            if not self._plan.unsafe:
                raise Missing(f"No matches for {point.kind} {point.target}.")
            symbol = name
        cpu = kernels.online_cpus()[0]
        try:
            event = attach.kprobe_event(
                symbol, self.descriptor(point.programs[0]), cpu, returns, point.offset
            )
        except OSError:
            raise Missing(f"Unable to attach probe: {point.text}.") from None
        self.attachment.descriptors.append(event)
        self.attachment.said.append(f"function {symbol} ({point.kind})")
        return 1

    def _functions(self, point: Point, module: str, name: str) -> int:
        from pytools.load.multi_attach import Target

        functions = self._running.functions()
        found = matching(functions, name)
        if module:
            found = [each for each in found if matching([functions[each] or "vmlinux"], module)]
        if not found:
            raise Missing(f"No matches for {point.kind} {point.target}.")
        return self.attach_many(point, [Target("function", each, 0) for each in found], found)

    def attach_many(self, point: Point, targets: list[Target], names: list[str]) -> int:
        """Attach the one program of a point to all of these; ``names`` are what stands behind the
        kind in their texts. How many were attached."""
        from pytools.load import multi_attach

        targets = [
            target._replace(number=len(self.probes) + place) for place, target in enumerate(targets)
        ]
        self.probes += [f"{point.kind}:{name}" for name in names]
        refused = multi_attach.attach_many(
            self.attachment, self._loaded, self._spec(point), self._settings, targets,
            self._running, lambda done, total: None, point.kind in ("kretprobe", "uretprobe"),
            point.pid or self._pid,
        )  # fmt: skip
        return len(targets) - len(refused)

    def file(self, file: File) -> File:
        """Keep a file open until all is attached."""
        self._files.append(file)
        return file

    # What the parts for programs and libraries need.

    @property
    def loaded(self) -> Loaded:
        return self._loaded

    @property
    def pid(self) -> int:
        return self._pid

    def spec(self, program: str) -> ProgramSpec:
        return self._specs[program]


def matching(names: object, pattern: str) -> list[str]:
    """Those of some names that match a pattern with *, ? and [], sorted."""
    import fnmatch

    found = re.compile(fnmatch.translate(pattern)).match
    return sorted(name for name in names if found(name))  # type: ignore[attr-defined]


def is_pattern(text: str) -> bool:
    return bool(PATTERN.search(text)) or not text
