"""One program at many probes: at all of them at once where the kernel can do that,
else at one after the other.

Since Linux commit 0dcac2725406 (v5.18) one link holds any number of kernel functions
(with CONFIG_FPROBE), since 89ae89f53d20 (v6.6) any number of places in a file. Then the
program learns from a cookie which probe it runs for. Elsewhere it is loaded once for
each probe, with a number of its own.
"""
from __future__ import annotations

import errno

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.load import attach, loader
from pytools.facts import differences, kernel, syscalls
from pytools.load.attach import Attachment
from pytools.facts.elf import File
from pytools.base.errors import Failure
from pytools.compile.image import ProgramSpec
from pytools.facts.kernel import Kernel
from pytools.load.loader import Loaded, refusal

if TYPE_CHECKING:
    from typing import Callable, Mapping, Sequence

    Progress = Callable[[int, int], None]


__all__ = ["COOKIE", "INDEX", "Target", "attach_many"]

# The setting by which a program knows its probe; what stands there where a cookie tells
# it, or the number of a system call, by a map (probe.h).
INDEX, COOKIE, ENTERED_CALL, RETURNING_CALL = "INDEX", -1, -2, -3
CALLS_MAP, CALLS = "probes_of_calls", 1024
CALL_ENDS = (("sys_enter", ENTERED_CALL, 0), ("sys_exit", RETURNING_CALL, CALLS))
MOST_SINGLE_CALLS = 8  # they take a third of a second to go
UNSUPPORTED = (errno.EOPNOTSUPP, 524)  # ENOTSUPP, which has no name in user space
FORBIDDEN = (errno.EPERM, errno.EACCES)
# By whether functions return: the kinds of programs at the kernel's and at others.
_KINDS = (("kprobe", "uprobe"), ("kretprobe", "uretprobe"))


class Target(NamedTuple):
    """A place to attach to: ``kind`` is ``function`` (name: its symbol), ``tracepoint``
    (CATEGORY:NAME), ``user`` (a function at an offset in a file), or ``usdt`` (an instruction
    there, with the offset of its semaphore, if it has one); ``number`` is what the program is
    told."""

    kind: str
    name: str
    number: int
    file: File | None = None
    offset: int = 0
    semaphore: int = 0


class _Many:
    def __init__(
        self,
        attachment: Attachment,
        loaded: Loaded,
        spec: ProgramSpec,
        settings: Mapping[str, int],
        running: Kernel,
        progress: Progress,
        returns: bool = False,
        pid: int = -1,
        stacks: bool = False,
    ) -> None:
        self._stacks = stacks
        self._kprobe, self._uprobe = _KINDS[returns]
        self._returns = returns
        self._pid = pid
        self._attachment = attachment
        self._loaded = loaded
        self._spec = spec
        self._settings = settings
        self._running = running
        self._progress = progress
        self._total = 0
        self._done = 0
        self.refused: list[Target] = []

    def attach(self, targets: Sequence[Target]) -> None:
        self._total = len(targets)
        functions = [target for target in targets if target.kind == "function"]
        if functions and not self._functions_at_once(functions):
            if self._spec.kind == "kprobe.session":
                raise Failure(f"cannot attach to function {functions[0].name} and its return")
            self._functions_one_by_one(functions)
        self._tracepoints([target for target in targets if target.kind == "tracepoint"])
        files: dict[tuple[int, ...], list[Target]] = {}
        for target in targets:
            if target.file is not None:
                files.setdefault(target.file.identity, []).append(target)
        for places in files.values():
            if not self._places_at_once(places):
                self._places_one_by_one(places)

    def _load(self, kind: str, number: int) -> int:
        """The program as one of that kind, for the probe of that number."""
        if all(name != INDEX for _, name in self._spec.settings):
            number = COOKIE  # it does not ask: one serves all
            for loaded, fd in self._loaded.programs:
                if (loaded.name, loaded.kind) == (self._spec.name, kind):
                    return fd
        spec = self._spec._replace(kind=kind)
        settings = {**self._settings, INDEX: number}
        fd = loader.load_program(spec, self._loaded.maps, settings)
        self._loaded.programs.append((spec, fd))
        return fd

    def _attached(self, count: int = 1) -> None:
        self._done += count
        self._progress(self._done, self._total)

    # The kernel's functions.

    def _can(self, attach_type: str) -> bool:
        if not self._running.has_btf:
            return False
        return bool(self._running.btf.enumerators({attach_type}))

    def _functions_at_once(self, functions: list[Target]) -> bool:
        """False where the kernel can't."""
        session = self._spec.kind == "kprobe.session"  # which is loaded already
        if not session and not self._can("BPF_TRACE_KPROBE_MULTI"):
            return False
        try:
            program = self._load("kprobe.session" if session else f"{self._kprobe}.multi", COOKIE)
        except Failure:
            return False
        refused: list[Target] = []
        pending = [functions]
        while pending:
            part = pending.pop()
            try:
                names, numbers = zip(*((target.name, target.number) for target in part))
                link = attach.kprobe_multi(program, names, numbers, self._returns, session)
                self._attachment.descriptors.append(link)
            except OSError as error:
                if error.errno in UNSUPPORTED:
                    return False
                if error.errno in FORBIDDEN:
                    raise refusal("attach to functions", error) from None
                # One that it refuses makes it refuse all: they are found by halves.
                if len(part) == 1:
                    refused += part
                else:
                    half = len(part) // 2
                    pending += [part[half:], part[:half]]
            else:
                self._attached(len(part))
        if len(refused) == len(functions):
            return False
        self.refused += refused
        count = len(functions) - len(refused)
        self._attachment.said.append(f"{count} functions at once (kprobe.multi)")
        return True

    def _functions_one_by_one(self, functions: list[Target]) -> None:
        if not self._running.has_kprobes:
            raise Failure(
                f"cannot attach to function {functions[0].name}: this kernel has no kprobes "
                "(CONFIG_KPROBE_EVENTS)"
            )
        cpu = kernel.online_cpus()[0]
        count = 0
        for function in functions:
            program = self._load(self._kprobe, function.number)
            try:
                self._attachment.descriptors.append(
                    attach.kprobe_event(function.name, program, cpu, self._returns)
                )
            except OSError as error:
                if error.errno in (*FORBIDDEN, errno.EMFILE):
                    raise refusal(f"attach to function {function.name}", error) from None
                self.refused.append(function)
            else:
                count += 1
            self._attached()
        self._attachment.said.append(f"{count} functions (kprobe)")

    # Tracepoints.

    def _tracepoints(self, targets: list[Target]) -> None:
        if not targets:
            return
        # A perf event of a tracepoint takes 40 ms to go, one after the other; a raw
        # tracepoint less than one, but not every tracepoint has one.
        from pytools.facts.btf import TYPEDEF

        targets = self._calls_together(targets)
        raw = self._takes_raw and bool(targets)
        types = set(self._running.btf.names(TYPEDEF)) if raw else set()
        for target in targets:
            category, _, name = target.name.partition(":")
            if f"btf_trace_{name}" in types and category != "syscalls":
                try:
                    program = self._load("raw_tracepoint", target.number)
                    attach.raw_tracepoint(self._attachment, name, program)
                    self._attached()
                    continue
                except Failure:  # of another name than its tracepoint
                    pass
            self._tracepoint(target.name, self._load("tracepoint", target.number))
            self._attached()

    @property
    def _takes_raw(self) -> bool:
        """Whether raw tracepoints are in place of tracepoints: they are not for programs that take
        stacks, which would begin with what runs the program."""
        return not self._stacks and differences.raw_tracepoints_count(self._running)

    def _tracepoint(self, name: str, program: int) -> None:
        number = self._running.tracepoint_id(*name.split(":"))
        cpu = kernel.online_cpus()[0]
        attach.tracepoint(self._attachment, name, program, number, cpu)

    def _calls_together(self, targets: list[Target]) -> list[Target]:
        """Attach to the tracepoints of single system calls by a program at all of them,
        which looks the call's number up; the targets that are left. Few take longer alone,
        but only the calls that they count."""
        of_calls = [target for target in targets if target.name.startswith("syscalls:")]
        exact = differences.single_calls_count(self._running)
        if exact and len(of_calls) <= MOST_SINGLE_CALLS:
            return targets
        table = self._loaded.maps[CALLS_MAP]
        done = set()
        for way, index, first in CALL_ENDS:
            count = 0
            for target in of_calls:
                number = None
                if target.name.startswith(f"syscalls:{way}_"):
                    number = syscalls.number_of_function(target.name[len(f"syscalls:{way}_") :])
                if number is not None and number < CALLS:
                    table.put(first + number, target.number + 1)
                    done.add(target)
                    count += 1
            if not count:
                continue
            # The faster one has no number where a call returns.
            if way == "sys_enter" and self._takes_raw:
                attach.raw_tracepoint(self._attachment, way, self._load("raw_tracepoint", index))
            else:
                self._tracepoint(f"raw_syscalls:{way}", self._load("tracepoint", index))
            self._attachment.said.append(f"{count} system calls at once (raw_syscalls:{way})")
            self._attached(count)
        return [target for target in targets if target not in done]

    # Programs and libraries.

    def _places_at_once(self, places: list[Target]) -> bool:
        """False where the kernel can't. All places are in one file."""
        file = places[0].file
        assert file is not None
        if not self._can("BPF_TRACE_UPROBE_MULTI"):
            return False
        try:
            program = self._load(f"{self._uprobe}.multi", COOKIE)
            link = attach.uprobe_multi(
                program, file, [(place.offset, place.semaphore) for place in places],
                [place.number for place in places], self._returns, self._pid,
            )  # fmt: skip
        except (Failure, OSError):
            return False  # one by one, which tells the reason
        self._attachment.descriptors.append(link)
        self._attachment.said.append(f"{len(places)} places of {file.path} at once (uprobe.multi)")
        self._attached(len(places))
        return True

    def _places_one_by_one(self, places: list[Target]) -> None:
        refused = []
        for place in places:
            assert place.file is not None
            program = self._load(self._uprobe, place.number)
            spec = self._spec._replace(kind=self._uprobe, target=place.name)
            try:
                at = [(place.offset, place.semaphore)]
                attach.attach_user(self._attachment, [(spec, program)], place.file, at, self._pid)
            except Failure:
                refused.append(place)
                if len(refused) == len(places):  # whatever the reason, it is that of all
                    raise
            self._attached()
        self.refused += refused


def attach_many(
    attachment: Attachment,
    loaded: Loaded,
    spec: ProgramSpec,
    settings: Mapping[str, int],
    targets: Sequence[Target],
    running: Kernel,
    progress: Progress,
    returns: bool = False,
    pid: int = -1,
    stacks: bool = False,
) -> list[Target]:
    """Attach a program (of a template's PROBES) to all targets, or to where these functions return;
    those that the kernel refuses are returned. Places in files are those of one process with
    ``pid``. ``stacks`` says that the program takes the kernel's stack. ``progress`` is told how
    many of how many are done, each time that some are. Raises Failure where nothing can be
    attached."""
    attach.more_descriptors()
    many = _Many(attachment, loaded, spec, settings, running, progress, returns, pid, stacks)
    many.attach(targets)
    return many.refused
