"""Counts that are read and removed while a program on another CPU makes more."""
from __future__ import annotations

import os
import select
from typing import Callable, Mapping

import pytest

from pytools.read.generations import Generations
from pytools.load.program import Program, prepare
from pytools.read.samples import Samples
from pytools.compile.unrendered import Unrendered
from support import EMULATED, last_cpu, on_host_only, python_child

CALLS = r"""
import os, sys
os.sched_setaffinity(0, [int(sys.argv[1])])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    os.getppid()
print("done", flush=True)
sys.stdin.readline()
"""

# It takes its time between looking a count up and adding to it.
SLOW = r"""
#include <linux/sched.h>
#include "generation.h"

struct key {
	u32 pid;
	u32 generation;
};
BPF_HASH(counts, struct key, u64, 64);
BPF_HASH(others, u32, u64, 64);

TRACEPOINT(syscalls, sys_enter_getppid)
{
	struct key key = {
		.pid = bpf_get_current_pid_tgid() >> 32,
		.generation = current_generation(),
	};
	u64 none = 0, *count, *other;
	u32 i, pid = key.pid;

	if (pid != $PID)
		return 0;
	count = counts.lookup_or_try_init(&key, &none);
	other = others.lookup_or_try_init(&pid, &none);
	for (i = 0; i < 500; i++)
		bpf_ktime_get_ns();
	if (count)
		__sync_fetch_and_add(count, 1);
	if (other)
		__sync_fetch_and_add(other, 1);
	return 0;
}
"""

SAMPLES = r"""
#include <linux/sched.h>
$SAMPLES

TRACEPOINT(syscalls, sys_enter_getppid)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (pid == $PID)
		add_sample($ID, 1000);
	return 0;
}
"""


def counted_while(
    calls: int,
    template: str,
    read_from: Callable[[Program], Callable[[], int]],
    code: Mapping[str, str] = {},
) -> int:
    """What a template counts while a process, $PID, makes the calls; it is read all the
    time, by what ``read_from`` makes of its program."""
    cpus = os.sched_getaffinity(0)
    with python_child(CALLS, str(last_cpu()), str(calls)) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        source = Unrendered(template, code, {}, {"PID": child.pid})
        program = prepare(source, {}, True, lambda line: None)
        read = read_from(program)
        program.attach()
        os.sched_setaffinity(0, cpus - {last_cpu()} or cpus)
        try:
            child.stdin.write(b"go\n")
            child.stdin.flush()
            found = 0
            while not select.select([child.stdout], [], [], 0)[0]:
                found += read()
            assert child.stdout.readline() == b"done\n"
        finally:
            os.sched_setaffinity(0, cpus)
            program.detach()
        return found + read()


SLOW_CALLS = 5_000 if EMULATED else 50_000


def test_what_a_slow_program_adds_is_not_lost() -> None:
    def read_from(program: Program) -> Callable[[], int]:
        generations = Generations(program)

        def read() -> int:
            generations.end()
            return sum(count for _, count in generations.drain(program.maps["counts"]))

        return read

    assert counted_while(SLOW_CALLS, SLOW, read_from) == SLOW_CALLS


@pytest.mark.host_only
def test_a_map_that_is_only_drained_loses_counts() -> None:
    """So that the test above can fail."""

    def read_from(program: Program) -> Callable[[], int]:
        return lambda: sum(count for _, count in program.maps["others"].drain())

    assert counted_while(SLOW_CALLS, SLOW, read_from) < SLOW_CALLS


@pytest.mark.every_kernel
@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("summary", [True, *on_host_only(False)])
def test_every_sample_is_in_one_histogram(keyed: bool, summary: bool) -> None:
    samples = Samples(1, keyed, summary)
    key = 7 if keyed else 0

    def read() -> int:
        found = samples.since_last()
        assert set(found) <= {key}
        histogram = found.get(key)
        if histogram is None or not histogram.samples:
            return 0
        if summary:
            assert histogram.summary is not None
            assert histogram.summary.total == 1000 * histogram.samples
            assert histogram.summary.maximum == 1000
        return histogram.samples

    def read_from(program: Program) -> Callable[[], int]:
        samples.read(program)
        return read

    calls = 20_000 if EMULATED else 1_000_000
    code = {"SAMPLES": samples.code, "ID": str(key)}
    assert counted_while(calls, SAMPLES, read_from, code) == calls
