"""Hold the tools against bcc's own of the same name and against the truth; run in a test machine.

    compare.py RESULT.json

Each workload runs twice: bcc's tool watches it, then ours. Its size is known, or the kernel itself
counts it. `comparison.py` makes a page of the results of all kernels.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "lib")]

from scheduling import PAIR, PING_PONG, asleep, schedstat  # noqa: E402
from support import busy_loops, cgroups, last_cpu, python_child  # noqa: E402
from test_opensnoop import CHILD  # noqa: E402

SIDES = ("bcc", "ours")
# Seconds until a tool must have attached: bcc's compiler, emulated, takes twenty, and runqlen's
# runs it twice.
PATIENCE = 400.0
ATTACHED = re.compile(rb"Hit Ctrl-C to end\.|^PID .*PATH\n", re.M)

# Shares of the truth.
LENGTH_TOLERANCE = 0.1
COUNT_TOLERANCE = 0.02
# The kernel reads its clock some microseconds before or after the tracepoint.
SLACK = 20e-6

LOOPS = 4
# More than the slots of a table that bcc leaves at its default size. test_runqlat.py has 12,000 for
# ours, which takes bcc's minutes on emulated processors.
MANY = 2000


class Failed(Exception):
    """A tool didn't start or ended with an error; the message is one line."""


class Finding(NamedTuple):
    """What a tool said of one workload, in words, beside the truth, and whether it is right."""

    truth: str
    found: str
    right: bool


class Histogram(NamedTuple):
    """Counts by bucket: first and last value of each, in seconds or tasks."""

    buckets: list[tuple[float, float, int]]

    @property
    def samples(self) -> int:
        return sum(count for _, _, count in self.buckets)

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which the sum of all samples is."""
        return (
            sum(low * count for low, _, count in self.buckets),
            sum(high * count for _, high, count in self.buckets),
        )


class Tool:
    """A tool, bcc's or ours, that has attached; it ends by Ctrl-C or by itself."""

    environment: dict[str, str] = {}

    def __init__(self, side: str, name: str, *options: str) -> None:
        self.side = side
        command = self.command(name, *options)
        self.directory = tempfile.TemporaryDirectory(prefix="compare-")
        self.printed = Path(self.directory.name) / "printed"
        self.said = Path(self.directory.name) / "said"
        with self.printed.open("wb") as printed, self.said.open("wb") as said:
            # bcc's tools don't all flush.
            self.process = subprocess.Popen(
                command,
                stdout=printed,
                stderr=said,
                env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
            )
        deadline = time.monotonic() + PATIENCE
        while not self.attached():
            if self.process.poll() is not None:
                raise Failed(self.reason())
            if time.monotonic() > deadline:
                self.process.kill()
                raise Failed(f"hasn't attached after {PATIENCE:.0f} s")
            time.sleep(0.1)
        # opensnoop-bpfcc prints its head before it opens its buffers.
        time.sleep(1)

    def command(self, name: str, *options: str) -> list[str]:
        """What is run."""
        place = shutil.which(f"{name}-bpfcc") if self.side == "bcc" else str(ROOT / "tools" / name)
        if place is None:
            raise Failed(f"{name}-bpfcc isn't installed")
        own = () if self.side == "bcc" else ("-v", "--json")
        return ["/usr/bin/python3", place, *own, *options]

    def attached(self) -> bool:
        """Whether the tool says so."""
        said = self.printed.read_bytes() + b"\n" + self.said.read_bytes()
        return ATTACHED.search(said) is not None

    def reason(self) -> str:
        """The line that says best why the tool failed: the compiler's first, or the last."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.said.read_text(errors="replace"))
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if re.search(r" error: |No such file", line)]
        return ([*errors[:1], *lines[-1:], f"ended with status {self.process.returncode}"])[0]

    def wait(self) -> bytes:
        """Wait for the tool's own end; what it printed."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed(f"hasn't ended after {PATIENCE:.0f} s") from None
        if status not in (0, -signal.SIGINT):
            raise Failed(self.reason())
        return self.printed.read_bytes()

    def next_print(self) -> int:
        """Wait until the tool has printed something more; the bytes it has printed in all."""
        before = self.printed.stat().st_size
        deadline = time.monotonic() + PATIENCE
        while (size := self.printed.stat().st_size) == before or self.growing():
            if self.process.poll() is not None:
                raise Failed(self.reason())
            if time.monotonic() > deadline:
                raise Failed(f"has printed nothing for {PATIENCE:.0f} s")
            time.sleep(0.05)
        return size

    def growing(self) -> bool:
        """Whether the tool is printing."""
        before = self.printed.stat().st_size
        time.sleep(0.3)
        return self.printed.stat().st_size != before

    def stop(self) -> bytes:
        """Interrupt the tool when it has printed what there is; what it printed."""
        size = -1
        # A pause while it prints must not count as the end, on a host that is busy.
        while size != (size := self.printed.stat().st_size):
            time.sleep(5)
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def lost(self) -> int:
        """The events that the tool says it lost."""
        if self.side == "bcc":
            return sum(map(int, re.findall(rb"(?i)lost (\d+) samples", self.said.read_bytes())))
        # Each histogram of one moment has it.
        return max(map(int, re.findall(rb'"lost": (\d+)', self.printed.read_bytes())), default=0)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.directory.cleanup()


@contextlib.contextmanager
def watching(side: str, name: str, *options: str) -> Iterator[Tool]:
    with contextlib.closing(Tool(side, name, *options)) as tool:
        yield tool


def histograms(side: str, printed: bytes, unit: float = 1) -> dict[int, Histogram]:
    """The histograms that a tool printed, by CPU, PID or TID; -1 for one that has no key.

    Those of several intervals are put together.
    """
    found: dict[int, Histogram] = {}
    if side == "ours":
        for record in map(json.loads, printed.splitlines()):
            key = next(iter(record["key"].values()), -1)
            found.setdefault(key, Histogram([])).buckets.extend(
                (b["lo"] * unit, (b["hi"] + 1) * unit, b["count"]) for b in record["buckets"]
            )
        return found
    key = -1
    for line in printed.decode().splitlines():
        if match := re.match(r"(?:cpu|pid|tid) = (\d+)", line):
            key = int(match[1])
        elif match := re.match(r"\s*(\d+)(?: -> (\d+))?\s*: (\d+)\s", line):
            low, high = int(match[1]), int(match[2] or match[1])
            found.setdefault(key, Histogram([])).buckets.append(
                (low * unit, (high + 1) * unit, int(match[3]))
            )
    return found


# runqlen.


def run_queues(side: str) -> list[Finding]:
    """Busy loops pinned to one CPU, in one cgroup, then each in its own."""
    cpu = last_cpu()
    findings = []
    with watching(side, "runqlen", "-C", "2") as tool:
        for groups in (1, LOOPS):
            with cgroups(groups) as folders, busy_loops(cpu, LOOPS, folders * (LOOPS // groups)):
                # The interval in which they began doesn't count.
                start = tool.next_print()
                tool.next_print()
                end = tool.next_print()
            printed = tool.printed.read_bytes()[start:end]
            findings.append(judge_length(histograms(side, printed).get(cpu, Histogram([]))))
        tool.stop()
    return findings


def judge_length(histogram: Histogram) -> Finding:
    wanted = LOOPS - 1
    # Of a linear histogram the lower bound is the value.
    mean = histogram.bounds[0] / histogram.samples if histogram.samples else 0
    right = abs(mean - wanted) <= LENGTH_TOLERANCE * wanted
    return Finding(f"{wanted}.00 waiting", f"{mean:.2f}", right)


# runqlat.


def tell(child: subprocess.Popen[bytes], answer: bytes | None = None) -> bytes:
    """Let a child go on; the line that it writes then."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(b"\n")
    child.stdin.flush()
    line = child.stdout.readline()
    assert answer in (None, line), line
    return line


# A thread that starts others, which end at once, while the main thread sleeps: its waits are
# complete before there are more tasks than a small table has room for.
MANY_THREADS = """
import threading

def start_many():
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[4])):
        thread = threading.Thread(target=lambda: None)
        thread.start()
        print(thread.native_id)
        thread.join()
    print("done", flush=True)
    sys.stdin.readline()

starter = threading.Thread(target=start_many)
starter.start()
starter.join()
"""

# One after the other, each of the first two with a child of its own.
QUEUES = PAIR + PING_PONG.replace("sys.argv[2]", "sys.argv[3]") + MANY_THREADS


def queue_latency(side: str) -> list[Finding]:
    """A process whose counters in /proc the kernel keeps: a rival for its CPU, then another that it
    wakes and waits for, then threads that end at once, one after the other."""
    with python_child(QUEUES, str(last_cpu()), "1.5", "5000", str(MANY)) as child:
        assert child.stdin is not None and child.stdout is not None
        main, rival = child.pid, int(child.stdout.readline())
        asleep([main, rival])
        with watching(side, "runqlat", "-L", "-p", str(main)) as tool:
            before = schedstat(main)
            tell(child, b"done\n")
            asleep([main, rival])
            rival = int(tell(child))
            asleep([main, rival])
            tell(child, b"done\n")
            asleep([main, rival])
            tell(child, b"ready\n")
            child.stdin.write(b"\n")
            child.stdin.flush()
            tids = {int(child.stdout.readline()) for _ in range(MANY)}
            assert child.stdout.readline() == b"done\n"
            asleep([main])
            after = schedstat(main)
            printed = tool.stop()
            lost = tool.lost()
    slices = after.slices - before.slices
    waited = (after.waited - before.waited) / 1e9
    found = histograms(side, printed, 1e-6)
    histogram = found.get(main, Histogram([]))
    least, most = histogram.bounds
    slack = SLACK * histogram.samples
    seen = len(tids & set(found))
    return [
        Finding(
            f"{slices} waits, {waited:.2f} s",
            f"{histogram.samples}, {least:.2f} to {most:.2f} s",
            abs(histogram.samples - slices) <= COUNT_TOLERANCE * slices
            and least - slack <= waited <= most + slack,
        ),
        Finding(
            f"{len(tids)} threads",
            f"{seen}" + (f", says {lost} lost" if lost else ""),
            abs(seen - len(tids)) <= COUNT_TOLERANCE * len(tids),
        ),
    ]


# opensnoop.

# Opens of seven kinds; each name is another. What it says it did has the kind in place of the call.
OPENS = (
    CHILD
    + r"""
base = sys.argv[1].encode()
PAGE = mmap.PAGESIZE
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mprotect.argtypes = libc.madvise.argtypes
existing = {
    "plain": [base + b"/plain %d" % i for i in range(2000)],
    "newline": [b"%s/two\nlines %d" % (base, i) for i in range(500)],
    "escape": [b"%s/\x1b[31mred\x1b[0m %d" % (base, i) for i in range(500)],
}
for names in existing.values():
    for name in names:
        open(name, "w").close()
missing = [b"%s/missing %d" % (base, i) for i in range(1500)]
long = [b"./" * 2045 + b"%05d" % i for i in range(200)]
away = [base + b"/away %d" % i for i in range(150)]
edge = [base + b"/edge %d" % i for i in range(150)]
with open(base + b"/names", "wb") as file:
    for name in away:
        file.write((name + b"\0").ljust(PAGE, b"\0"))
backing = os.open(base + b"/names", os.O_RDWR)
memory = mmap.mmap(backing, PAGE * len(away), mmap.MAP_PRIVATE)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
two = mmap.mmap(-1, 2 * PAGE)
end = ctypes.addressof(ctypes.c_char.from_buffer(two)) + PAGE
assert libc.mprotect(end, PAGE, 0) == 0
ready()
kinds = []

def opened(kind, name, pointer=None):
    call("openat", name if pointer is None else pointer)
    calls[-1][5] = name.hex()
    kinds.append(kind)

for kind, names in existing.items():
    for name in names:
        opened(kind, name)
for name in missing:
    opened("failed", name)
for name in long:
    opened("long", name)
assert libc.madvise(address, PAGE * len(away), 4) == 0  # MADV_DONTNEED
for i, name in enumerate(away):
    opened("away", name, address + i * PAGE)
for name in edge:
    ctypes.memmove(end - len(name) - 1, name + b"\0", len(name) + 1)
    opened("edge", name, end - len(name) - 1)
for i, kind in enumerate(kinds):
    calls[i][0] = kind
done()
"""
)

# In bytes, because a line of bcc's may be in no encoding.
BCC_LINE = re.compile(rb"(\d+) +.{1,16}? +(-?\d+) +(\d+) (.*)", re.S)

Open = tuple[int, int, bytes]


def opens(side: str, printed: bytes) -> list[Open]:
    """The opens that a tool reports: file descriptor, errno, name."""
    if side == "ours":
        records = [json.loads(line) for line in printed.splitlines()]
        return [
            (
                record["fd"],
                record["err"],
                (record["path"] or "").encode("utf-8", "surrogateescape"),
            )
            for record in records
            if "path" in record
        ]
    found = [BCC_LINE.fullmatch(line) for line in printed.split(b"\n")]
    return [(int(match[2]), int(match[3]), match[4]) for match in found if match]


def opened_files(side: str) -> list[Finding]:
    """Opens with names of each kind that has ever been lost or mangled."""
    with tempfile.TemporaryDirectory(prefix="opened-") as directory:
        with python_child(OPENS, directory) as child:
            assert child.stdin is not None and child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            with watching(side, "opensnoop", "-p", str(child.pid)) as tool:
                child.stdin.write(b"\n")
                child.stdin.flush()
                calls = json.loads(child.stdout.readline())
                printed = tool.stop()
                lost = tool.lost()
    left = Counter(opens(side, printed))
    total: Counter[str] = Counter()
    exact: Counter[str] = Counter()
    for kind, fd, error, _, _, name in calls:
        total[kind] += 1
        one = (fd, error, bytes.fromhex(name))
        if left[one]:
            left[one] -= 1
            exact[kind] += 1
    raw = len(re.findall(rb"[\0-\x08\x0b-\x1f\x7f]", printed))
    wrong = [
        f"{kind} {exact[kind]} of {total[kind]}" for kind in total if exact[kind] < total[kind]
    ]
    notes = [
        *wrong,
        *([f"{lost} said to be lost"] if lost else []),
        *([f"{raw} control characters to the terminal"] if raw else []),
    ]
    found = f"{sum(exact.values())} exact" + (f" ({', '.join(notes)})" if notes else "")
    return [Finding(f"{len(calls)} opens", found, exact == total and not raw)]


# What one run of a tool is held against, and how.
CHECKS: list[tuple[str, list[str], Callable[[str], list[Finding]]]] = [
    ("runqlen", ["one cgroup", "cgroups"], run_queues),
    ("runqlat", ["one task", "many tasks"], queue_latency),
    ("opensnoop", ["names"], opened_files),
]


def version(package: str) -> str:
    query = ["dpkg-query", "-W", "-f", "${Version}", package]
    return subprocess.run(query, stdout=subprocess.PIPE, check=True).stdout.decode()


def main(target: Path) -> int:
    findings: list[dict[str, object]] = []
    for tool, checks, run in CHECKS:
        for side in SIDES:
            # The harness takes the last such line for the test that ran last.
            print(f"{tool}::{checks[0]} {side}", flush=True)
            start = time.monotonic()
            found: list[dict[str, object]]
            try:
                found = [dict(finding._asdict()) for finding in run(side)]
            except Failed as error:
                found = [{"error": str(error), "right": False} for _ in checks]
            for check, finding in zip(checks, found):
                findings.append({"tool": tool, "check": check, "side": side, **finding})
            print(f"  {time.monotonic() - start:.0f} s: {found}", flush=True)
    versions = {
        "kernel": platform.release(),
        "bcc": version("python3-bpfcc"),
        "python": platform.python_version(),
    }
    target.write_text(json.dumps({"versions": versions, "findings": findings}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
