"""runqlen against workloads of known length."""
from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from pytools.load import attach, loader, program
from pytools.facts import kernel
from pytools.compile.unrendered import Unrendered
from support import (
    EMULATED,
    HAS_BTF,
    TOOLS,
    Tool,
    busy_loops,
    cgroups,
    last_cpu,
    needs_btf,
    python_child,
    run_tool,
    state_of,
)

pytestmark = pytest.mark.alone

# Busy loops take a processor of the host meanwhile, where the machine is emulated.
SECONDS = "1.5" if EMULATED else "3"
# Of processes that are all in one cgroup, --cfs reads the same numbers.
QUEUE = [] if HAS_BTF else ["--cfs"]


def lengths(output: str) -> dict[int, dict[int, int]]:
    """Samples by length, by CPU (-1: all), out of runqlen --json."""
    found: dict[int, dict[int, int]] = {}
    for line in output.splitlines():
        record = json.loads(line)
        histogram = found.setdefault(record["key"].get("cpu", -1), {})
        for bucket in record["buckets"]:
            assert bucket["lo"] == bucket["hi"]
            histogram[bucket["lo"]] = histogram.get(bucket["lo"], 0) + bucket["count"]
        assert sum(bucket["count"] for bucket in record["buckets"]) == record["samples"]
    return found


def mean(histogram: dict[int, int]) -> float:
    return sum(length * count for length, count in histogram.items()) / sum(histogram.values())


def sample(*arguments: str) -> dict[int, dict[int, int]]:
    result = run_tool("runqlen", "--json", "-C", "-d", SECONDS, *(arguments or QUEUE))
    assert result.returncode == 0, result.stderr
    return lengths(result.stdout)


@pytest.mark.every_kernel
def test_counts_three_waiters_behind_four_busy_loops() -> None:
    cpu = last_cpu()
    with busy_loops(cpu, 4):
        assert mean(sample()[cpu]) == pytest.approx(3, rel=0.1)


@pytest.mark.every_kernel
@needs_btf
def test_counts_waiters_that_are_alone_in_their_cgroups() -> None:
    cpu = last_cpu()
    with cgroups(4) as folders, busy_loops(cpu, 4, folders):
        assert mean(sample()[cpu]) == pytest.approx(3, rel=0.1)
        # bcc's reading sees each of them alone on the queue of its own cgroup.
        assert mean(sample("--cfs")[cpu]) < 0.3


@pytest.mark.every_kernel
def test_cfs_counts_waiters_of_one_cgroup() -> None:
    cpu = last_cpu()
    with cgroups(1) as (folder,), busy_loops(cpu, 4, 4 * [folder]):
        assert mean(sample("--cfs")[cpu]) == pytest.approx(3, rel=0.1)


@needs_btf
def test_counts_waiters_of_the_real_time_class() -> None:
    cpu = last_cpu()
    program = """
import os, sys
os.sched_setaffinity(0, [int(sys.argv[1])])
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        while True:
            pass
    children.append(child)
print("ready", flush=True)
sys.stdin.readline()
for child in children:
    os.kill(child, 9)
print("done", flush=True)
"""
    if Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists():
        assert Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").read_text() != "0\n"
    with python_child(program, str(cpu)) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"ready\n"
        try:
            with Tool("runqlen", "--json", "-C", "1", "2") as tool:
                histogram = lengths(tool.wait())[cpu]
        finally:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
    # Three real-time loops, and whatever of the ordinary class waits behind them.
    assert mean(histogram) >= 1.9


# A tenth of those that a CPU gives. An idle one may give next to none, where its clock stops.
FEW_SAMPLES = 0.1 * 99 * float(SECONDS)


@pytest.mark.any_types
def test_an_idle_cpu_reads_zero() -> None:
    histogram = sample().get(last_cpu(), {})
    assert sum(count for length, count in histogram.items() if length) <= FEW_SAMPLES


# Tasks that each run for 5 ms and then sleep for up to 0.3 s, in turn. Beside one that never sleeps
# five wait on average, if nothing but these takes the processor: a wait of W = 30 ms solves both
# n / (n + 1) = 30 * 5 / (150 + W), their share of it, and n = 30 * W / (150 + W), those that wait.
SLEEPERS = """
import os, random, sys, time
os.sched_setaffinity(0, [int(sys.argv[1])])
children = []
for _ in range(30):
    child = os.fork()
    if not child:
        while True:
            end = time.process_time() + 0.005
            while time.process_time() < end:
                pass
            time.sleep(random.uniform(0, 0.3))
    children.append(child)
print(*children, flush=True)
sys.stdin.readline()
"""


def is_runnable(pid: int) -> bool:
    return state_of(pid) == "R"


@pytest.mark.any_types
def test_sleepers_are_not_counted() -> None:
    """Not even those that the scheduler keeps queued ("delayed dequeue"): the mean
    length is that of the tasks whose state is "running", less the one that runs."""
    cpu = last_cpu()
    waiters = []
    with python_child(SLEEPERS, str(cpu)) as child, busy_loops(cpu, 1) as busy:
        assert child.stdout
        pids = [*map(int, child.stdout.readline().split()), *busy]
        # Long beside the time that the first ones take, who all begin at once, and the tool's end.
        with Tool("runqlen", "--json", "-C", *QUEUE, "4", "1") as tool:
            while tool.process.poll() is None:
                waiters.append(sum(map(is_runnable, pids)) - 1)
            histogram = lengths(tool.wait())[cpu]
    truth = sum(waiters) / len(waiters)
    assert truth > 2
    # Sleepers that are counted make it more. Emulated timers expire in bunches, of which a sample
    # is one of the first: it misses those that the rest of its bunch wakes up.
    assert mean(histogram) <= 1.2 * truth + 0.5
    assert EMULATED or mean(histogram) == pytest.approx(truth, rel=0.2, abs=0.5)


def occupancies() -> dict[int, tuple[float, int]]:
    """Occupancy and samples by CPU."""
    output = run_tool("runqlen", "-OC", "--json", *QUEUE, SECONDS, "1").stdout
    records = map(json.loads, output.splitlines())
    return {record["cpu"]: (record["occupancy"], record["samples"]) for record in records}


@pytest.mark.any_types
def test_occupancy_is_full_behind_busy_loops_and_empty_without() -> None:
    cpu = last_cpu()
    with busy_loops(cpu, 2):
        full, _ = occupancies()[cpu]
    empty, samples = occupancies().get(cpu, (0, 0))
    assert full >= 0.95
    assert empty * samples <= FEW_SAMPLES


@pytest.mark.host_only
def test_occupancy_as_text() -> None:
    result = run_tool("runqlen", "-O", "-d", "0.2")
    assert result.stdout.startswith("runqocc: ") and result.stdout.endswith("%\n")


@pytest.mark.host_only
@pytest.mark.parametrize("option, each", [("-m", 1000 / 99), ("-u", 1_000_000 / 99)])
def test_estimated_time_is_samples_times_the_period(option: str, each: float) -> None:
    result = run_tool("runqlen", "--json", "-d", "1", option)
    record = json.loads(result.stdout)
    assert record["counted"] == {"-m": "msecs", "-u": "usecs"}[option]
    total = sum(bucket["count"] for bucket in record["buckets"])
    assert total == pytest.approx(record["samples"] * each, abs=0.01)


@pytest.mark.host_only
def test_samples_at_the_frequency_asked_for() -> None:
    """A busy CPU takes every sample; an idle one may be too fast asleep."""
    cpu = last_cpu()
    with busy_loops(cpu, 1), Tool("runqlen", "--json", "-C", "-f", "500", *QUEUE, "2", "1") as tool:
        histogram = lengths(tool.wait())[cpu]
    # Emulated processors stand still at times; at the rate that is not asked for it would be 200.
    assert 300 <= sum(histogram.values()) <= 1100


# 5,000 threads that do nothing but run: each executes one instruction, a jump to
# itself, in machine code, because Python would let one run at a time.
THREADS = """
import ctypes, mmap, os, sys
cpu, number = int(sys.argv[1]), int(sys.argv[2])
jump = {"x86_64": bytes([0xEB, 0xFE]), "aarch64": (0x14000000).to_bytes(4, "little")}
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(jump[os.uname().machine])
address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(page)))
libc = ctypes.CDLL(None)
attributes = ctypes.create_string_buffer(256)
libc.pthread_attr_init(attributes)
libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(16384))
# They are born on the CPU that they are to wait for, so that the one which
# creates them, on another, is never behind them.
cpus = (ctypes.c_ulong * 16)(*[1 << cpu])
libc.pthread_attr_setaffinity_np(attributes, ctypes.c_size_t(128), cpus)
thread = ctypes.c_ulong()
for _ in range(number):
    error = libc.pthread_create(ctypes.byref(thread), attributes, address, None)
    if error:
        sys.exit(f"cannot create a thread: error {error}")
print("ready", flush=True)
sys.stdin.readline()
os._exit(0)
"""


@pytest.mark.host_only
def test_five_thousand_waiters_neither_fail_nor_vanish() -> None:
    cpu = last_cpu()
    with python_child(THREADS, str(cpu), "5000") as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"ready\n"
        histogram = sample()[cpu]
        text = run_tool("runqlen", *QUEUE, "-d", "1").stdout
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.wait()
    assert max(histogram) >= 4999
    assert mean(histogram) == pytest.approx(4999, rel=0.1)
    assert len(text.splitlines()) <= 70


@contextlib.contextmanager
def switched_off(cpu: int) -> Iterator[None]:
    switch = Path(f"/sys/devices/system/cpu/cpu{cpu}/online")
    assert cpu > 0 and switch.exists(), "one CPU only, or none that can be switched off"
    switch.write_text("0")
    try:
        yield
    finally:
        switch.write_text("1")


@pytest.mark.any_types
def test_an_offline_cpu_is_left_out() -> None:
    cpu = last_cpu()
    with switched_off(cpu):
        found = sample()
    assert found and cpu not in found


@pytest.mark.any_types
def test_a_cpu_that_goes_offline_meanwhile_does_not_matter(monkeypatch: Any) -> None:
    present = kernel.online_cpus()
    template = "PERF_EVENT(sample)\n{\n\treturn 0;\n}\n"
    image = program._image(Unrendered(template), kernel.running(), True, False, lambda line: None)
    loaded = loader.load(image)
    with switched_off(present[-1]):
        monkeypatch.setattr(kernel, "online_cpus", lambda: present)
        attached = attach.attach(loaded, kernel.running(), attach.Sampling(99))
    try:
        others = ",".join(map(str, present[:-1]))
        assert attached.said == [f"perf event cpu-clock, 99 Hz, CPUs {others}"]
    finally:
        attached.detach()


@pytest.mark.host_only
def test_timestamp_precedes_each_histogram() -> None:
    result = run_tool("runqlen", "-T", "0.2", "2")
    stamps = [line for line in result.stdout.splitlines() if line.count(":") == 2]
    assert len(stamps) == 2


def test_without_btf_the_cpu_s_own_queue_is_refused() -> None:
    script = f"mount -t tmpfs none /sys/kernel/btf; exec {TOOLS}/runqlen --no-cache -d 0"
    result = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-ec", script],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "")
    assert "BTF" in result.stderr and "use --cfs" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.host_only
def test_a_frequency_of_zero_is_bad_usage() -> None:
    result = run_tool("runqlen", "-f", "0")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
