"""What a tool would compile for a command line, on any kernel, with nothing started."""
from __future__ import annotations

import argparse
import contextlib
import functools
import os
from typing import Any, Iterator, Sequence
from unittest import mock

from pytools.collection import catalogue
from pytools.facts import kernel as kernel_facts
from pytools.tool import filters
from pytools.domains import probes
from pytools.load import loader, pinned, program
from pytools.facts.kernel import Kernel
from pytools.compile.unrendered import Unrendered
from support import ROOT, TOOLS, needed

FIXTURES = ROOT / "tests" / "fixtures"
RECORDED = ("5.10", "6.1", "6.12", "6.18", "7.0", "7.3")
SHAPES = "shapes"  # a template beside the tools' own: fixtures/shapes.c

# An argument for each option that takes one, by its dest.
SAMPLES = {
    "interval": "1",
    "which": "after-rq-alloc",
    "pcts": "50,99.9",
    "duration": "0",
    "frequency": "49",
    "pid": "1",
    "tid": "1",
    "uid": "0",
    "name": "cat",
    "name_part": "cat",
    "flag_filter": "O_WRONLY",
    "cgroup": "/",
    "mntns": str(os.getpid()),
    "pidns": str(os.getpid()),
    "comm": "cat",
    "thread": "c*t",
    "every": "1",
    "top": "1",
    "errno": "ENOENT",
    "syscall": "read",
    "ppid": "1",
    "max_args": "1",
    "line": "cat",
    "call": "ioctl",
    "disk": "loop0",
    "lports": "80",
    "rports": "80",
    "laddr": "192.0.2.1",
    "raddr": "2001:db8::1",
    "ports": "80",
    "netns": str(os.getpid()),
    "namespace": str(os.getpid()),
    "interface": "lo",
    "maxrows": "5",
    "period": "1000000",
    "events": "1000000",
    "event": "cpu-clock",
    "command": "true",
    "cgroupmap": "/sys/fs/bpf/cgroups",
    "mntnsmap": "/sys/fs/bpf/namespaces",
    "cpu": "0",
    "svg": "/dev/null",
    "speedscope": "/dev/null",
    "stack_storage_size": "1024",
    "hash_storage_size": "1024",
    "min_block_time": "1",
    "max_block_time": "1",
    "state": "1",
    "least": "1",
    "min": "1",
    "type": "ext4",
    "directory": "/",
    "directories": "/,/*",
    "sort": "all",
    "shared": "/bin/bash",
    "label": "end",
    "signal": "9,TERM",
    "tpid": "1",
    "older": "1",
    "sort_by": "count",
    "sample_rate": "5",
    "min_size": "16",
    "max_size": "32",
    "obj": "c",
    "symbols_prefix": "je_",
    "unique": "pid",
    "capability": "KILL,21",
    "locks": "3",
    "stacks": "2",
    "caller": "pipe_",
    "lock": "0xffffffff81000000",
    "order": "acq_total",
    "wqname": "events",
    "level": "2",
    "min_ms": "1",
    "min_us": "1",
    "arguments": "2",
}


class _Prepared(BaseException):
    def __init__(self, source: Unrendered) -> None:
        super().__init__()
        self.source = source


class Recorded(Kernel):
    """A kernel by its recording, whatever runs here: all of them have kprobes."""

    has_kprobes = True


def recorded(release: str) -> Kernel:
    """A recorded kernel."""
    folder = FIXTURES / "kernels" / release
    return Recorded(release, str(folder / "vmlinux.btf"), str(folder))


@functools.lru_cache(maxsize=None)
def load(tool: str) -> Any:
    """A tool as a module; the command pytools is one, too."""
    return catalogue.load(str((ROOT / "sbin" if tool == "pytools" else TOOLS) / tool))


def options(tool: str) -> list[argparse.Action]:
    """A tool's options, its own and the shared ones."""
    found: list[argparse.Action] = load(tool).parser._actions
    return [action for action in found if action.option_strings and action.dest != "help"]


def shortest(tool: str) -> list[str]:
    """A tool's shortest command line on which it ends at once."""
    ends = any(action.dest == "duration" for action in options(tool))
    return [*load(tool).tool.try_with, *(["--duration", "0"] if ends else [])]


def sample(action: argparse.Action) -> str:
    """An argument for an option that takes one."""
    known = SAMPLES.get(action.dest)
    if action.choices and known not in action.choices:
        return str(next(iter(action.choices)))
    assert known is not None, f"no sample for {action.dest}"
    return known


def command_lines(tool: str) -> list[list[str]]:
    """Without options, and with each of those alone that a tool has to itself. What --exec adds is
    the same for all: test_exec.py."""
    shared = "duration form ebpf no_cache verbose version schema timestamp list command".split()
    lines: list[list[str]] = [[]]
    for action in options(tool):
        if action.dest not in shared:
            argument = [] if action.nargs == 0 else [sample(action)]
            lines.append([action.option_strings[-1], *argument])
    return lines


def filter_lines(tool: str) -> list[list[str]]:
    """Of these command lines, those with a filter that lib writes, and that go together."""
    groups = [g for g in load(tool).parser._action_groups if "in the kernel" in str(g.title)]
    found: dict[str, list[str]] = {}
    for action in (action for group in groups for action in group._group_actions):
        if action.dest == "command":  # not allowed with --pid
            continue
        argument = [] if action.nargs == 0 else [SAMPLES[action.dest]]
        found.setdefault(action.dest, [action.option_strings[-1], *argument])
    return list(found.values())


@contextlib.contextmanager
def on(kernel: Kernel | None) -> Iterator[None]:
    """What is started meanwhile takes a kernel for the running one, which takes types, and cgroups
    to be version 2."""
    running = kernel_facts.running
    with contextlib.ExitStack() as patches:
        for owner, name, replacement in (
            (filters, "_hierarchy", lambda path: []),
            (kernel_facts, "running", lambda: kernel or running()),
            (kernel_facts, "possible_cpus", lambda: [0, 1]),
            (probes, "find", lambda *rest: [probes.Found("tracepoint", [])]),
            (loader, "takes_types", lambda number: True),
            (pinned, "open_hash", lambda path, key_bytes: 0),
        ):
            patches.enter_context(mock.patch.object(owner, name, replacement))
        yield


def capture(tool: str, arguments: Sequence[str] = (), kernel: Kernel | None = None) -> Unrendered:
    """What a tool hands to program.prepare. Cgroups are taken to be version 2."""
    if tool == SHAPES:
        return Unrendered((FIXTURES / "shapes.c").read_text())

    def prepare(source: Unrendered, *rest: object) -> None:
        raise _Prepared(source)

    module = load(tool)
    with on(kernel), mock.patch.object(program, "prepare", prepare):
        try:
            module.start(module.tool.options(needed(tool, arguments)))
        except _Prepared as stopped:
            return stopped.source
    raise AssertionError(f"{tool} {arguments} prepared no program")
