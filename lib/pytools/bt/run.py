"""A program at work: loaded, attached, run, read, and printed, until it ends."""
from __future__ import annotations

import os
import re
import select
import signal
import time

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.base.system import page_size
from pytools.bt.actions import Actions
from pytools.bt.attaching import OFF, Attaching
from pytools.bt.hooks import RUN_BY_US, attach_all
from pytools.bt.losses import Losses
from pytools.bt.show.lines import Lines, complain
from pytools.bt.show.names import Names
from pytools.bt.show.tables import Table
from pytools.load import loader, test_run
from pytools.read.ringbuf import RingBuffer

if TYPE_CHECKING:
    from typing import Callable, Mapping

    from pytools.base.held import Held
    from pytools.bt.plan import Plan, Point
    from pytools.bt.wrong import Wrong
    from pytools.compile.image import Image
    from pytools.facts.kernel import Kernel

__all__ = ["Run"]

AGAIN_SECONDS = 0.5  # after which Ctrl-C is a second one
LATEST_SECONDS = 0.1  # a record is printed at most so long after it was written
NOTIFY = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"  # set: a line of that name says when all is attached
RING = "events"
# For records, of which some hundred thousand find room; of what is given, the next power of two.
RING_BYTES, LEAST_RING_BYTES, MOST_RING_BYTES = 1 << 22, 1 << 18, 1 << 30
MOST_LABEL = 127  # characters (KSYM_NAME_LEN of include/linux/kallsyms.h, before v6.1)
NANOSECONDS = 1_000_000_000
# What the verifier says of a helper that a program may not call where it is attached.
NOT_ALLOWED = ("helper call is not allowed in probe", "program of this type cannot use helper")
ENDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Timer:
    """When an interval's block is run next."""

    def __init__(self, point: Point, now: float) -> None:
        self.point = point
        if point.period:
            self._period = point.period / NANOSECONDS
        else:
            self._period = 1 / max(point.frequency, 1)
        self.due = now + self._period

    def again(self, now: float) -> None:
        # A machine that was asleep, or output that nobody read: go on from here.
        self.due = max(self.due + self._period, now)


class Run:
    """A program between its start and its end. ``settings`` are the numbers that are put in when it
    is loaded; ``pid`` is the process that it is about, -1 for all; ``command`` one that it starts.
    ``warn`` is told what is missing, ``say`` what was done; ``warns`` says whether the program may
    warn."""

    def __init__(
        self,
        plan: Plan,
        image: Image,
        settings: Mapping[str, int],
        running: Kernel,
        lines: Lines,
        pid: int = -1,
        command: Held | None = None,
        sizes: Mapping[str, int] = {},
        warn: Callable[[Wrong], None] = lambda wrong: None,
        say: Callable[[str], None] = lambda text: None,
        warns: bool = True,
    ) -> None:
        self._plan = plan
        self._lines = lines
        self._pid = pid
        self._command = command
        self._say = say
        self._signals: list[int] = []
        self._watched: set[int] = set()  # descriptors of processes whose end is the program's
        self._ended = False
        self._interrupted = 0.0  # when
        self._woken = -1
        pages = int(plan.config.get("perf_rb_pages") or 0)
        tables = {each.table: each.entries for each in plan.maps}
        sizes = {RING: _ring_bytes(pages), **tables, **sizes}
        try:
            self.loaded = loader.load(image, sizes, settings, labels=_labels(plan))
        except Failure as failure:
            _refused(failure, plan)
            raise
        self._hooks = Attaching(
            plan, image, self.loaded, settings, running, pid, warn, pid if command is None else -1
        )
        self._attached = 0
        maps = self.loaded.maps
        self._ring = RingBuffer(maps[RING])
        config = plan.config
        names = Names(
            self._hooks.probes, maps, str(config.get("str_trunc_trailer", "..")),
            int(config.get("max_strlen", 1024)),
        )  # fmt: skip
        shown = {each.name: Table(each, maps[each.table], names) for each in plan.maps}
        uses = {program.name: {name for _, name in program.maps} for program in image.programs}
        self._actions = Actions(plan, shown, names, lines, self.loaded, uses, warns)
        self._losses = Losses(plan, maps, lines)
        self._descriptors = {spec.name: fd for spec, fd in self.loaded.programs}

    # From its start to its end.

    def main(self, duration: float | None = None, quiet: bool = False, dry: bool = False) -> int:
        """Attach, run, print; the exit status. Raises Failure."""
        try:
            self._catch_signals()
            if self._command is not None:
                self._watched.add(self._command.ended)
            elif self._pid > 0:
                self._watch(self._pid)
            if not dry:
                self._run_points("begin")
            self._attached = attach_all(self._hooks)
            for line in self._hooks.attachment.said:
                self._say(f"attached to {line}")
            if dry:
                return 0
            self._announce(quiet)
            if self._command is not None:
                self._command.release()
            self._follow(duration)
            return self._finish()
        finally:
            self._hooks.attachment.detach()
            if self._command is not None:
                self._command.end()
            self._actions.close()

    def _announce(self, quiet: bool) -> None:
        if not quiet:
            self._lines.attached(self._attached)
        if os.environ.get(NOTIFY):
            os.write(1, f"{NOTIFY}\n".encode())
        self._lines.release()

    @property
    def _over(self) -> bool:
        return self._ended or self._actions.exit_code is not None

    def _follow(self, duration: float | None) -> None:
        """Read and print, and run what is due, until something ends it."""
        now = time.monotonic()
        end = None if duration is None else now + duration
        timers = [_Timer(point, now) for point in self._plan.points if point.kind == "interval"]
        # Nothing comes that it could wait for.
        passive = all(point.kind in ("begin", "end", OFF) for point in self._plan.points)
        some = True
        while not self._over:
            some = self._drain(once=True) or some
            now = time.monotonic()
            if end is not None and now >= end or passive and not self._watched:
                break
            self._run_due(timers, now)
            if self._over:
                break
            if not some:
                self._lines.batch_ends()
                self._losses.say()
            next_look = LATEST_SECONDS * (0.5 if some else 0.9)
            for moment in [timer.due for timer in timers] + ([] if end is None else [end]):
                next_look = min(next_look, max(moment - now, 0))
            some = False
            self._wait(next_look)

    def _run_due(self, timers: list[_Timer], now: float) -> None:
        for timer in timers:
            if timer.due <= now and not self._over:
                self._run_point(timer.point)
                timer.again(now)

    def _finish(self) -> int:
        """What still comes, the END blocks, the maps."""
        exited = self._actions.exit_code is not None
        self._hooks.attachment.detach()
        if exited:
            self._discard()
        else:
            self._drain()
        if self._actions.left_out:
            complain(f"WARNING: {self._actions.left_out} commands were not run: it was ended")
        code = self._actions.exit_code or 0
        self._actions.exit_code = None
        self._actions.stopping = self._ended = False
        self._run_points("end")
        code = self._actions.exit_code or code
        self._losses.say(last=True)
        self._lines.end()
        if self._plan.config.get("print_maps_on_exit", True):
            self._actions.print_all()
        self._lines.close()
        return int(code)

    # What the tool runs itself.

    def _run_points(self, kind: str) -> None:
        for point in self._plan.points:
            if point.kind == kind and not self._over:
                self._run_point(point)

    def _run_point(self, point: Point) -> None:
        """Run the steps of a block, one after the other: what each has asked for is done before
        the next one runs."""
        self._drain()  # what came before it is printed before it
        self._actions.begin_block()
        for name in point.programs:
            self._actions.begin_step(name)
            ended = test_run.run(self._descriptors[name])
            self._drain(block=True)
            # A signal lets a block run to its end: what it has printed it must clear, say.
            if ended or self._actions.exit_code is not None:
                break
        self._actions.end_block()
        self._lines.batch_ends()

    # The ring.

    def _drain(self, once: bool = False, block: bool = False) -> bool:
        """Print the records that are there; whether there were any. ``once`` leaves those that came
        meanwhile."""
        some = False
        while True:
            records = self._ring.read()
            if not records:
                return some
            some = True
            if not block:
                self._actions.begin_batch()
            self._actions.do(records)
            if self._actions.exit_code is not None:
                return True
            if once:
                self._lines.batch_ends()
                return True

    def _discard(self) -> None:
        """Leave out what came after the end."""
        while self._ring.read():
            pass

    # Waiting.

    def _catch_signals(self) -> None:
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        for number in ENDED:
            signal.signal(number, self._signalled)
        for point in self._plan.points:
            if point.kind == "self":
                signal.signal(_signal_of(point), self._signalled)
        signal.set_wakeup_fd(wake)

    def _signalled(self, number: int, frame: object) -> None:
        if number not in ENDED:
            self._signals.append(number)
            return
        now = time.monotonic()
        # timeout(1) sends a signal twice, a moment apart: to its child, and to its group.
        if self._interrupted and now - self._interrupted > AGAIN_SECONDS:
            complain("interrupted again: what was not written yet is lost")
            raise KeyboardInterrupt
        self._interrupted = self._interrupted or now
        self._ended = True
        self._actions.stopping = True

    def _watch(self, pid: int) -> None:
        try:
            self._watched.add(os.pidfd_open(pid))
        except ProcessLookupError:
            raise Failure(f"there is no process {pid}") from None

    def _wait(self, seconds: float) -> None:
        ready, _, _ = select.select([self._ring.fd, self._woken, *self._watched], [], [], seconds)
        if self._woken in ready:
            os.read(self._woken, 512)
        while self._signals:
            number = self._signals.pop(0)
            for point in self._plan.points:
                if point.kind == "self" and _signal_of(point) == number:
                    self._run_point(point)
        if any(descriptor in ready for descriptor in self._watched):
            self._ended = True


def _labels(plan: Plan) -> dict[str, str]:
    """The names of the programs that the tool runs itself: bpftool shows them, and fentry:bpf:NAME
    stands for them."""
    found = {}
    for point in plan.points:
        if point.kind not in RUN_BY_US:
            continue
        text = point.text
        if point.kind == "interval":
            text = f"interval_us_{(point.period or NANOSECONDS // max(point.frequency, 1)) // 1000}"
        for step, program in enumerate(point.programs):
            words = [text, str(point.action + 1), *([f"step{step + 1}"] if step else [])]
            found[program] = re.sub(r"\W", "_", "_".join(words))[:MOST_LABEL]
    return found


def _refused(failure: Failure, plan: Plan) -> None:
    """Raise Wrong if the kernel refused a program because of a helper whose place is known."""
    called = ""
    for line in failure.detail.splitlines():
        call = re.search(r" call (\w+)#\d+", line)
        called = call[1] if call else called
        if called in plan.helpers and line.startswith(NOT_ALLOWED):
            from pytools.bt.wrong import Wrong

            at = plan.helpers[called]
            raise Wrong((at[0], at[1]), f"helper {called} not allowed in probe") from None


def _signal_of(point: Point) -> signal.Signals:
    """The signal that runs a block: its name stands behind "signal:"."""
    return signal.Signals[point.target.rpartition(":")[2]]


def _ring_bytes(pages: int) -> int:
    """The size of the ring, a power of two: of so many pages, or (0) as large as is good."""
    if not pages:
        return RING_BYTES
    size = 1 << (pages * page_size() - 1).bit_length()
    return min(max(size, LEAST_RING_BYTES), MOST_RING_BYTES)
