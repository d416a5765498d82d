"""Processes that a bench starts: tools, until they are attached and to their end,
and what they use meanwhile."""
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Sequence

# Compiling with all of the kernel's headers, on a machine that does much else.
PATIENCE = 120.0
# How long nothing must change before a tool is taken to be attached; each of its
# attachments takes the kernel some 20 ms.
QUIET = 0.5
NICEST = -20
# How long an interrupted tool gets to end before it is interrupted again.
AGAIN = 5.0
# Ours has the largest buffer: 8 MiB, of some 130,000 events, which take it half a
# second at the very most.
CATCH_UP = 2.0


class Trouble(Exception):
    """What could not be measured, and why, in one line."""


class Tool:
    """A tool that runs beside a load; use it in a ``with`` statement.

    Its output goes to a file, as in ``opensnoop > file``. ``name`` is what the
    report calls it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        output: Path,
        env: dict[str, str],
        quiet: float = QUIET,
    ) -> None:
        self.name = name
        self._quiet = quiet
        self.output = output
        self._messages = output.with_suffix(".messages")
        with open(output, "wb") as data, open(self._messages, "wb") as messages:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=data, stderr=messages, env=env
            )
        self.pid = self.process.pid
        self.attached = 0.0  # when it was, by time.monotonic()

    def __enter__(self) -> Tool:
        try:
            self._wait_until_attached()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def messages(self) -> str:
        """What it said on standard error."""
        return self._messages.read_text(errors="replace")

    def _wait_until_attached(self) -> None:
        # No two tools say alike that they are attached, and most say it into a
        # buffer. All of them hold a file descriptor for each attachment.
        before, since = 0, time.monotonic()
        deadline = since + PATIENCE
        while True:
            time.sleep(0.02)
            if self.process.poll() is not None:
                lines = self.messages.strip().splitlines() or ["no message"]
                raise Trouble(f"{self.name} does not run here: {_reason(lines[-1])}")
            now = _attachments(self.pid)
            if now != before:
                before, since = now, time.monotonic()
            elif now and time.monotonic() - since > self._quiet:
                self.attached = since
                return
            if time.monotonic() > deadline:
                raise Trouble(f"{self.name} did not attach within {PATIENCE:.0f} s")

    def catch_up(self) -> None:
        """Let it read what is in its buffer."""
        # Not until it is idle: on a busy machine opensnoop never is.
        time.sleep(CATCH_UP)

    def cpu_seconds(self) -> float:
        """Processor time of all its threads, user and system, to the nanosecond
        (/proc/PID/stat counts in steps of 10 ms)."""
        total = 0
        for path in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that is gone
                total += int((path / "schedstat").read_text().split()[0])
        return total / 1e9

    def peak_kib(self) -> int:
        """The most memory that it had at a time (VmHWM), in KiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if "VmHWM" in line))

    def program_time(self) -> dict[int, tuple[int, int]]:
        """Nanoseconds and runs of each BPF program it holds, by the program's id.
        They count while ``program_statistics`` does."""
        programs = {}
        for path in Path(f"/proc/{self.pid}/fdinfo").iterdir():
            with contextlib.suppress(OSError):
                lines = path.read_text().splitlines()
                fields = dict(line.partition(":\t")[::2] for line in lines)
                if "run_time_ns" in fields:
                    programs[int(fields["prog_id"])] = (
                        int(fields["run_time_ns"]), int(fields["run_cnt"]),
                    )  # fmt: skip
        return programs

    def program_total(self) -> tuple[int, int]:
        """Nanoseconds of its programs together, and runs of the one that ran most
        often: as many as there were events (an open may take one or two)."""
        programs = self.program_time().values()
        return sum(time for time, _ in programs), max(runs for _, runs in programs)

    def stop(self) -> None:
        """Interrupt it as Ctrl-C does, and wait for its end."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            # Again and again: bcc's tools miss one that comes while they print.
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(AGAIN)
                return
        raise Trouble(f"{self.name} does not end on Ctrl-C")


def _reason(line: str) -> str:
    """The last line of a message, without what Python puts in front of it."""
    return line[len("Exception: ") :] if line.startswith("Exception: ") else line


def _attachments(pid: int) -> int:
    count = 0
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                # perf_event; bpf_link; bpf-raw-tracepoint before Linux v5.7.
                count += "perf_event" in target or "bpf_link" in target or "raw-trace" in target
    return count


class Spent(NamedTuple):
    """What a process took, from fork to exit: seconds by the clock, seconds of
    processor time (its own children included), and the most KiB of memory at
    a time (its own process only; 0 if not asked for)."""

    wall: float
    cpu: float
    peak: int


def spend(
    launch: Path, name: str, command: Sequence[str], env: dict[str, str], memory: bool = False
) -> Spent:
    """Run a command to its end by ``loads/launch.c``."""
    done = subprocess.run(
        [str(launch), *(["-m"] if memory else []), *command],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False,
        timeout=PATIENCE,
    )  # fmt: skip
    wall, user, system, peak, status = map(int, done.stdout.split())
    if status:
        lines = done.stderr.strip().splitlines() or [f"exit status {status}"]
        raise Trouble(f"{name} does not run here: {_reason(lines[-1])}")
    return Spent(wall / 1e9, (user + system) / 1e6, peak)


def run_load(command: Sequence[str]) -> tuple[int, list[int]]:
    """Run a load to its end: its pid, and the numbers that it prints."""
    load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output, _ = load.communicate()
    if load.returncode:
        raise Trouble(f"{os.path.basename(command[0])} failed (status {load.returncode})")
    return load.pid, [int(word) for word in output.split()]


def run_on_all_cpus(command: Callable[[int], Sequence[str]]) -> int:
    """Run a load on each CPU, all of them at once: how many there were. ``command`` is
    told the CPU."""
    cpus = sorted(os.sched_getaffinity(0))
    run_on(cpus, command)
    return len(cpus)


def run_on(cpus: Sequence[int], command: Callable[[int], Sequence[str]]) -> None:
    """Run a load on each of these CPUs, all of them at once."""
    with ThreadPoolExecutor(len(cpus)) as pool:
        list(pool.map(run_load, map(command, cpus)))


@contextlib.contextmanager
def first_in_line() -> Iterator[None]:
    """Let all that is started here, loads, tools and peers alike, come before
    what else the machine does. Among themselves they share as ever."""
    os.setpriority(os.PRIO_PROCESS, 0, NICEST)
    # With autogroups (sched(7)) that counts within the session only; the
    # session as a whole has a value of its own.
    group = Path("/proc/self/autogroup")
    # Nothing is in it for the session of a machine's first process.
    words = group.read_text().split() if group.exists() else []
    before = words[-1] if words else ""
    if before:
        group.write_text(str(NICEST))
    try:
        yield
    finally:
        if before:
            group.write_text(before)


def load_cpu() -> int:
    """The CPU that loads are pinned to: the last one, which is the least likely
    to be the one that interrupts are sent to."""
    return max(os.sched_getaffinity(0))


def context_switches() -> int:
    """Context switches of the whole system since boot."""
    with open("/proc/stat") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("ctxt "))


@contextlib.contextmanager
def program_statistics() -> Iterator[None]:
    """Let the kernel take the time of every BPF program. It is what the sysctl
    kernel.bpf_stats_enabled switches on, but held by a file descriptor: however
    this process ends, it is off again."""
    from pytools.base import system

    ENABLE_STATS, RUN_TIME = 32, 0  # enum bpf_cmd, enum bpf_stats_type; Linux v5.8
    fd = system.bpf(ENABLE_STATS, bytearray(RUN_TIME.to_bytes(4, "little")))
    try:
        yield
    finally:
        os.close(fd)
