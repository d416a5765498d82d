"""Raw tracepoints whose programs know their arguments' types: what they read, and what
becomes of them on kernels that have or take no such programs."""
from __future__ import annotations

import os
from typing import Callable

import pytest

from capture import recorded
from pytools.load import loader
from pytools.base.errors import Failure
from pytools.facts.kernel import Kernel, running
from pytools.load.program import prepare
from pytools.compile.unrendered import Unrendered
from pytools.compile.template import render
from support import python_child

# Counts reads of a process that tell what the kernel tells, and those that don't.
TEMPLATE = r"""
#include <linux/sched.h>
BPF_ARRAY(counts, u64, 2);

RAW_TRACEPOINT(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	u64 switches;
	u32 wrong;

	if (bpf_get_current_pid_tgid() >> 32 != $PID)
		return 0;
	bpf_probe_read_kernel(&switches, sizeof(switches), &prev->nvcsw);
	wrong = READ(task_struct, prev, tgid) != $PID ||
		READ(task_struct, prev, nvcsw) != switches ||
		READ(task_struct, next, pid) == READ(task_struct, prev, pid);
	counts.increment(wrong);
	return 0;
}
"""
SLEEPS = r"""
import sys, time
print("ready", flush=True)
sys.stdin.readline()
for _ in range(100):
    time.sleep(0.002)
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.every_kernel
def test_what_is_read_at_once_is_what_a_call_reads() -> None:
    said: list[str] = []
    with python_child(SLEEPS) as child:
        source = Unrendered(TEMPLATE, settings={"PID": child.pid})
        program = prepare(source, {}, False, said.append)
        program.attach()
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"done\n"
        program.detach()
    right, wrong = (count for _, count in program.maps["counts"].items())
    assert right >= 50 and wrong == 0
    typed = [line for line in said if line.endswith("sched_switch (tp_btf)")]
    assert bool(typed) == takes_types()


def takes_types() -> bool:
    if not running().has_btf:
        return False
    type_id = running().btf.raw_tracepoint_id("sched_switch")
    assert type_id is not None
    return loader.takes_types(type_id)


def test_a_type_that_no_raw_tracepoint_has_is_refused() -> None:
    if not takes_types():
        pytest.skip(f"{os.uname().release} takes no programs with types")
    type_id = running().btf.struct("task_struct", ["pid"])
    assert type_id is not None and not loader.takes_types(type_id)


@pytest.mark.rendering
@pytest.mark.parametrize("release", ["5.10", "7.3"])
def test_a_kernel_is_asked_whether_it_takes_types(release: str) -> None:
    kernel = recorded(release)
    asked: list[int] = []

    def answer(takes: bool) -> Callable[[int], bool]:
        def typed(type_id: int) -> bool:
            asked.append(type_id)
            return takes

        return typed

    source = Unrendered(TEMPLATE, settings={"PID": 1})
    for typed, hook in (
        (answer(True), "tp_btf"),
        (answer(False), "raw_tracepoint"),
        (None, "tp_btf"),
    ):
        rendered = render(source, kernel, typed=typed)
        (found,) = rendered.hooks
        assert (found.kind, found.target) == (hook, "sched_switch")
        assert ("prev->tgid" in rendered.text) == (hook == "raw_tracepoint")
    assert asked == [kernel.btf.raw_tracepoint_id("sched_switch")] * 2
    # The form without types, for a kernel that refuses the other after all.
    assert render(source, kernel, False).hooks[0].kind == "raw_tracepoint"


@pytest.mark.rendering
def test_only_a_template_that_reads_so_has_types() -> None:
    template = "RAW_TRACEPOINT(sched_switch, bool preempt)\n{\n\treturn TYPED;\n}\n"
    rendered = render(Unrendered(template), recorded("6.12"))
    assert rendered.hooks[0].kind == "raw_tracepoint" and "return 0;" in rendered.text


@pytest.mark.rendering
def test_a_member_that_is_not_there_is_named() -> None:
    template = TEMPLATE.replace("$PID", "1").replace("prev, tgid", "prev, nothing")
    with pytest.raises(Failure, match="struct task_struct has no member nothing in this kernel"):
        render(Unrendered(template), recorded("6.12"))


@pytest.mark.rendering
def test_without_types_of_the_kernel_s_members_are_read_as_ever() -> None:
    rendered = render(Unrendered(TEMPLATE, settings={"PID": 1}), Kernel("6.12", "/nonexistent"))
    assert rendered.hooks[0].kind == "raw_tracepoint" and "prev->tgid" in rendered.text
