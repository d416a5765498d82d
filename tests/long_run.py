#!/usr/bin/python3
"""Eight tools at once under work of known size and rate, for as long as you like: what each has
reported and what it says it lost must be what was done, and its memory must be flat.

    tests/long_run.py [--minutes N] [--tools NAME,NAME] [--rate N] [--stop SECONDS] [--verbose]

The work (long_run.c) is opens, execs, TCP connections with themselves and UDP packets in a network
namespace of their own, system calls, reads of a loop device past the page cache, and context
switches. Each kind has a rate that this takes little of a CPU at (RATES); --rate gives all of them
the same one, and what cannot keep pace does less. With --stop, all tools are stopped (SIGSTOP) for
so many seconds in the middle: what they then lose, they must say. One interval of the tables is
then as long, and memory is not judged.

Each tool writes JSON to a pipe, where the events of the work are counted. Others may use the
machine meanwhile: what they do is not counted, but losses may be theirs. So reported is what was
done if nothing was lost, and else at most that, and with what was lost at least that. Of flowtop,
what was done is what the kernel counted at the namespace's interface; of offcputime it is the
microseconds that a process of the work was off its CPU by the process's own clocks, to 2 percent;
where it has lost waits, at most that.

Every ten seconds, the resident memory of a tool and its children is looked at, and the memory of
its maps. A tool FAILs if either is, at the end, more than 10 percent above what it was after a
minute, or if the numbers do not fit. The exit status is then 1.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Sequence

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE)]

import disks  # noqa: E402
from support import PATIENCE, TOOLS  # noqa: E402

RATES = {
    "opens": 10_000, "execs": 150, "connections": 500, "packets": 10_000, "calls": 10_000,
    "reads": 2_000, "switches": 10_000,
}  # fmt: skip
# The kind of work that each tool watches.
KINDS = {
    "opensnoop": "opens", "execsnoop": "execs", "tcpconnect": "connections",
    "tcplife": "connections", "flowtop": "packets", "syscount": "calls", "biolatency": "reads",
    "offcputime": "switches",
}  # fmt: skip
IN_NAMESPACE = {"connections", "packets", "sessions", "attempts"}
SAMPLE_SECONDS = 10
WARM_SECONDS = 60  # after which memory is to be flat
MOST_GROWTH = 1.1
PIPE_BYTES = 1 << 20
CLOCKS_AGREE = 0.02
# A program that does nothing, for execs.
NOTHING = (
    'void _start(void) { long result; __asm__ volatile("syscall" : "=a"(result)'
    ' : "a"(231L), "D"(0L) : "rcx", "r11", "memory"); }\n'
)
LOST = re.compile(rb"^\w+: (\d+) [^\n]*\blost\b", re.M)
BUCKET = re.compile(rb'"count": (\d+)')


class Done(NamedTuple):
    """What a worker did: how often; how many system calls; in what time, and CPU time (ns)."""

    times: int
    calls: int
    elapsed: int
    cpu: int


class Worker:
    """A process that does one kind of work."""

    def __init__(self, program: str, kind: str, rate: float, seconds: float, *more: str) -> None:
        inside = ["nsenter", f"--net=/run/netns/{NAMESPACE}"] if kind in IN_NAMESPACE else []
        self.kind = kind
        self.done: Done | None = None
        self.process = subprocess.Popen(
            [*inside, program, kind, str(rate), str(seconds), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line != b"ready\n":
            raise SystemExit(f"{kind}: cannot do it")

    @property
    def pid(self) -> int:
        return self.process.pid

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def wait(self) -> Done:
        """What it did, when it is done; it lives until ``close``."""
        assert self.process.stdout is not None
        self.done = Done(*map(int, self.process.stdout.readline().split()))
        return self.done

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


NAMESPACE = f"long-{os.getpid()}"


@contextlib.contextmanager
def namespace() -> Iterator[None]:
    """A network namespace with a loopback interface that is up, and with many ports."""

    def inside(*command: str) -> None:
        subprocess.run(["nsenter", f"--net=/run/netns/{NAMESPACE}", *command], check=True)

    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    try:
        inside("ip", "link", "set", "lo", "up")
        inside("sh", "-c", "echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=True)


def packets_at_loopback() -> int:
    """How many packets came in and went out there since the namespace is."""
    text = subprocess.run(
        ["nsenter", f"--net=/run/netns/{NAMESPACE}", "cat", "/proc/net/dev"],
        stdout=subprocess.PIPE, check=True,
    ).stdout.decode()  # fmt: skip
    numbers = text.partition("lo:")[2].split()
    return int(numbers[1]) + int(numbers[9])


# What a tool's output says of the work: each gets whole lines, and gives what is in them.
Reported = Callable[[bytes], int]


def lines_with(text: bytes) -> Reported:
    return lambda data: data.count(text)


def sums(row: bytes, number: bytes) -> Reported:
    """Of the rows with a text, what stands behind another."""
    wanted = re.compile(re.escape(row) + rb".*?" + re.escape(number) + rb"(\d+)")
    return lambda data: sum(map(int, wanted.findall(data)))


def in_buckets(disk: str) -> Reported:
    wanted = f'"disk": "{disk}"'.encode()
    return lambda data: sum(
        int(count) for line in data.splitlines() if wanted in line for count in BUCKET.findall(line)
    )


def waits_of(pid: int) -> Reported:
    """The microseconds of all waits that were over."""

    def found(data: bytes) -> int:
        rows = (json.loads(line) for line in data.splitlines() if f'"pid": {pid},'.encode() in line)
        return sum(row["usecs"] for row in rows if row["pid"] == pid and not row["ongoing"])

    return found


class Sample(NamedTuple):
    """Seconds since the work began; resident memory, and that of maps, in bytes."""

    at: float
    resident: int
    maps: int


class Tool:
    """A tool that runs: what it wrote is counted and forgotten."""

    def __init__(self, name: str, arguments: Sequence[str], reported: Reported) -> None:
        self.name = name
        self.reported = self.bytes = 0
        self.messages = b""
        self.samples: list[Sample] = []
        self.cpu = self.ending = 0.0
        self.peak = 0  # resident, while it ends
        self._reported = reported
        self._rest = b""
        self.process = subprocess.Popen(
            [str(TOOLS / name), "--json", "-v", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        assert self.process.stdout is not None and self.process.stderr is not None
        while b"Hit Ctrl-C to end." not in self.messages:
            data = self.process.stderr.read(65536)
            if not data:
                raise SystemExit(f"{name} ended: {self.messages.decode()}")
            self.messages += data
        self.attached = len(self.messages)

    def read(self, data: bytes) -> None:
        """Count what is in some output; empty at its end."""
        self.bytes += len(data)
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest, lines = data[end:], data[:end]
        self.reported += self._reported(lines)

    @property
    def lost(self) -> int:
        """How much it has said to be lost, of whatever, on standard error."""
        return sum(map(int, LOST.findall(self.messages[self.attached :])))

    def family(self) -> list[int]:
        """The tool's process, and its children."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    text = Path(f"/proc/{pid}/task/{task}/children").read_text()
                    found += map(int, text.split())
        return found

    def resident(self) -> int:
        """The resident memory of the family, in bytes."""
        found = 0
        for pid in self.family():
            with contextlib.suppress(OSError, IndexError):  # it has ended
                status = Path(f"/proc/{pid}/status").read_text()
                found += int(status.partition("VmRSS:")[2].split()[0]) << 10
        return found

    def sample(self, at: float) -> None:
        cpu = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                cpu += sum(map(int, fields[11:15]))
        self.cpu = max(self.cpu, cpu / os.sysconf("SC_CLK_TCK"))
        self.samples.append(Sample(at, self.resident(), self._maps()))

    def _maps(self) -> int:
        """The memory of the maps that it has open (proc(5): memlock, what they really take since
        Linux 6.4)."""
        found = {}
        folder = f"/proc/{self.process.pid}/fdinfo"
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):
                    lines = Path(folder, name).read_text().splitlines()
                    info = dict(line.split(":", 1) for line in lines if ":" in line)
                    if "map_id" in info:
                        found[int(info["map_id"])] = int(info["memlock"])
        return sum(found.values())


class Readers:
    """Reads what all tools write, until they have ended."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._selector = selectors.DefaultSelector()
        for tool in tools:
            assert tool.process.stdout is not None and tool.process.stderr is not None
            for stream in (tool.process.stdout, tool.process.stderr):
                os.set_blocking(stream.fileno(), False)
                self._selector.register(stream, selectors.EVENT_READ, tool)

    def read_until(self, moment: float) -> bool:
        """Read until then; false when nobody writes any more."""
        while self._selector.get_map() and (left := moment - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                tool = key.data
                data = os.read(key.fd, PIPE_BYTES)
                if key.fileobj is tool.process.stderr:
                    tool.messages += data
                else:
                    tool.read(data)
                if not data:
                    self._selector.unregister(key.fileobj)
        return bool(self._selector.get_map())


class Run:
    """The tools that are asked for, with the workers that they watch."""

    def __init__(self, folder: str, disk: str, options: argparse.Namespace) -> None:
        self.folder, self.disk, self.options = folder, disk, options
        self.seconds = 60 * options.minutes
        self.program, nothing = f"{folder}/long_run", f"{folder}/nothing"
        self.compile(self.program, str(HERE / "long_run.c"))
        Path(folder, "nothing.c").write_text(NOTHING)
        self.compile(nothing, f"{folder}/nothing.c", "-static", "-nostdlib")
        Path(folder, "file").touch()
        more = {"opens": f"{folder}/file", "execs": nothing, "reads": f"/dev/{disk}"}
        self.workers = {
            kind: Worker(
                self.program,
                kind,
                options.rate or rate,
                self.seconds,
                *([more[kind]] if kind in more else []),
            )  # fmt: skip
            for kind, rate in RATES.items()
            if kind in {KINDS[name] for name in options.tools}
        }
        self.tools = [self._tool(name) for name in options.tools]

    @staticmethod
    def compile(program: str, source: str, *more: str) -> None:
        subprocess.run(["cc", "-O2", *more, "-o", program, source], check=True)

    def _tool(self, name: str) -> Tool:
        pid = self.workers[KINDS[name]].pid

        def by(key: str) -> bytes:
            return f'"{key}": {pid},'.encode()

        watching: dict[str, tuple[list[str], Reported]] = {
            "opensnoop": ([], lines_with(by("pid"))),
            "execsnoop": ([], lines_with(by("ppid"))),
            "tcpconnect": ([], lines_with(by("pid"))),
            "tcplife": ([], lines_with(by("pid"))),
            "flowtop": (["--netns", NAMESPACE], sums(b'"ts"', b'"packets": ')),
            "syscount": (["-P", "10"], sums(by("pid"), b'"count": ')),
            "biolatency": (["-D", "10"], in_buckets(self.disk)),
            "offcputime": ([], waits_of(pid)),
        }
        return Tool(name, *watching[name])

    def expected(self, name: str) -> tuple[int, int]:
        """How much was done that a tool is to report, and how much of the work that was."""
        done = {kind: worker.done for kind, worker in self.workers.items()}
        kind = KINDS[name]
        work = done[kind]
        assert work is not None
        if name == "tcplife":
            return 2 * work.times, work.times  # both ends
        if name == "syscount":
            return work.calls, work.times
        if name == "flowtop":
            return packets_at_loopback() - self.packets_before, work.times
        if name == "offcputime":
            return (work.elapsed - work.cpu) // 1000, work.times
        return work.times, work.times

    def go(self) -> float:
        """Do the work, and look at the tools; gives the seconds that it took."""
        readers = Readers(self.tools)
        self.packets_before = packets_at_loopback()
        reads_before = disks.stat(self.disk).reads
        began = time.monotonic()
        for worker in self.workers.values():
            worker.go()
        now, end = 0.0, self.seconds + 1
        stopped = self.options.stop, (end - self.options.stop) / 2
        moments = [*range(0, int(end), SAMPLE_SECONDS), end]
        if self.options.stop:
            moments = sorted({*moments, stopped[1], sum(stopped)})
        for moment in moments:
            readers.read_until(began + moment)
            now = time.monotonic() - began
            for tool in self.tools:
                if self.options.stop and moment == stopped[1]:
                    tool.process.send_signal(signal.SIGSTOP)
                if self.options.stop and moment == sum(stopped):
                    tool.process.send_signal(signal.SIGCONT)
                tool.sample(now)
            if self.options.verbose and moment % WARM_SECONDS == 0:
                sizes = ", ".join(
                    f"{tool.name} {tool.samples[-1].resident >> 20}" for tool in self.tools
                )
                print(f"{now:.0f} s: MiB {sizes}", file=sys.stderr, flush=True)
        for worker in self.workers.values():
            worker.wait()
        took = time.monotonic() - began
        self.reads = disks.stat(self.disk).reads - reads_before
        # What the tools have not read yet; those of them that wait for an interval end with it.
        ended = time.monotonic()
        for tool in self.tools:
            tool.process.send_signal(signal.SIGINT)
        while readers.read_until(time.monotonic() + 0.5):
            for tool in self.tools:
                if tool.process.poll() is None:
                    tool.ending = time.monotonic() - ended
                    tool.peak = max(tool.peak, tool.resident())
            if time.monotonic() > ended + PATIENCE:
                raise SystemExit("they do not end")
        for tool in self.tools:
            tool.process.wait()
        return took

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        for tool in getattr(self, "tools", []):
            if tool.process.poll() is None:
                tool.process.kill()
                tool.process.communicate()


def wrong(tool: Tool, expected: int, stopped: bool) -> list[str]:
    """What is wrong with a tool's numbers."""
    found = []
    if tool.process.returncode:
        found.append(f"status {tool.process.returncode}")
    least = most = float(expected)
    if tool.name == "offcputime":
        most = expected * (1 + CLOCKS_AGREE)
        # What it loses are waits, of no known length.
        least = 0 if tool.lost else expected * (1 - CLOCKS_AGREE)
    if not least <= tool.reported + tool.lost or tool.reported > most:
        found.append("reported + lost is not what was done")
    if b"Traceback" in tool.messages:
        found.append("a traceback")
    warm = [sample for sample in tool.samples if sample.at >= WARM_SECONDS]
    if warm and not stopped:
        for what, before, after in (
            ("memory", warm[0].resident, warm[-1].resident),
            ("maps", warm[0].maps, warm[-1].maps),
        ):
            if after > before * MOST_GROWTH:
                found.append(f"{what} grew by {after / before - 1:.0%}")
    return found


def mebibytes(tool: Tool, member: str) -> list[str]:
    """The first, that after a minute, the largest, the last."""
    values = [getattr(sample, member) / (1 << 20) for sample in tool.samples]
    warm = next((n for n, sample in enumerate(tool.samples) if sample.at >= WARM_SECONDS), -1)
    return [f"{value:.1f}" for value in (values[0], values[warm], max(values), values[-1])]


HEADINGS = "TOOL WORK WORK/s EXPECTED REPORTED LOST RSS(MiB) 1MIN MOST LAST MAPS LAST CPU(s) END(s)"
WIDTHS = (-10, 9, 6, 10, 10, 7, 8, 6, 6, 6, 6, 6, 6, 6)


def row(values: Sequence[object]) -> str:
    return " ".join(
        str(value).rjust(width) if width > 0 else str(value).ljust(-width)
        for value, width in zip(values, WIDTHS)
    )


def report(run: Run, took: float) -> int:
    """Print what was found; how many tools failed."""
    failed = 0
    print(row(HEADINGS.split()))
    for tool in run.tools:
        expected, work = run.expected(tool.name)
        resident, maps = mebibytes(tool, "resident"), mebibytes(tool, "maps")
        print(
            row([
                tool.name, work, f"{work / run.seconds:.0f}", expected, tool.reported, tool.lost,
                *resident, maps[0], maps[-1], f"{tool.cpu:.1f}", f"{tool.ending:.1f}",
            ])
        )  # fmt: skip
        if tool.peak:
            print(f"  {tool.name}: {tool.peak >> 20} MiB at most while it ended")
        found = wrong(tool, expected, run.options.stop > 0)
        failed += bool(found)
        for what in found:
            print(f"FAIL {tool.name}: {what}")
    for tool in run.tools:
        said = tool.messages[tool.attached :].decode("utf-8", "replace").strip()
        lines = said.splitlines()
        for line in lines[-6:]:
            print(f"  {line}")
        if len(lines) > 6:
            print(f"  ({len(lines)} lines)")
    cpu = sum(worker.done.cpu for worker in run.workers.values() if worker.done) / 1e9
    own = time.process_time()
    print(
        f"{took:.0f} s; CPU time: the work {cpu:.1f} s, the tools "
        f"{sum(tool.cpu for tool in run.tools):.1f} s, reading what they wrote {own:.1f} s "
        f"({sum(tool.bytes for tool in run.tools) / 1e9:.2f} GB); "
        f"the kernel counted {run.reads} reads"
    )
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--stop", type=float, default=0)
    parser.add_argument("--tools", type=lambda text: text.split(","), default=list(KINDS))
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with namespace(), tempfile.TemporaryDirectory(dir=memory) as folder:
        with disks.loop_disk(Path(folder)) as disk:
            run = Run(folder, disk, options)
            try:
                failed = report(run, run.go())
            finally:
                run.close()
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
