"""Tools in a process of their user's: started and collected from, with nothing printed."""
from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from typing import Any, Iterator

import pytest

import capture
from programs import program_ids, wait_until_detached
from pytools.base.errors import Failure
from pytools.read.histogram import Histogram
from support import EMULATED, kinds, python_child, tool_names

# Does on request a known number of what each kind of tools sees.
WORKLOAD = """
import os, socket, subprocess, sys
folder = sys.argv[1]
listener = socket.create_server(("127.0.0.1", 0))
for line in sys.stdin:
    for number in range(int(line)):
        path = f"{folder}/{number}"
        with open(path, "wb") as file:
            file.write(bytes(4096))
            os.fsync(file.fileno())
        os.unlink(path)
        subprocess.run(["/bin/true"])
        with socket.create_connection(listener.getsockname()), listener.accept()[0]:
            pass
    print("done", flush=True)
"""


# Arguments with which a tool shows what it leaves out without.
EVERYTHING = {"runqslower": ["0"], "memleak": ["-o", "0"]}


class Workload:
    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child

    def do(self, times: int) -> None:
        assert self.child.stdin and self.child.stdout
        self.child.stdin.write(b"%d\n" % times)
        self.child.stdin.flush()
        assert self.child.stdout.readline() == b"done\n"


@pytest.fixture
def workload(tmp_path: Any) -> Iterator[Workload]:
    folder = os.environ.get("PYTOOLS_SCRATCH") or str(tmp_path)
    with python_child(WORKLOAD, folder) as child:
        yield Workload(child)


def started(tool: str, *arguments: str) -> Any:
    """A tool that is attached; None where the kernel has not what it takes."""
    module = capture.load(tool)
    try:
        return module.start(module.tool.options([*module.tool.try_with, *arguments]))
    except Failure as failure:
        assert "this kernel has no kprobes" in str(failure), (tool, failure)
        return None


def opens(collected: Any) -> int:
    return sum(
        row["path"].endswith("/0") and row["flags"] & os.O_CREAT > 0 for row in collected.rows
    )


def test_a_tool_tells_what_it_saw_since_the_last_time(workload: Workload) -> None:
    with contextlib.closing(started("opensnoop", "-p", str(workload.child.pid))) as trace:
        for times in (1, 0, 1):
            for _ in range(times):
                workload.do(1)
            collected = trace.collect()
            assert opens(collected) == times and not collected.lost


def test_counts_and_histograms_add_up(workload: Workload) -> None:
    """Since the last time, or since the start; each in a trace of its own, at the same time."""
    pid = str(workload.child.pid)
    call = "unlink" if platform.machine() == "x86_64" else "unlinkat"
    with contextlib.ExitStack() as stack:
        counts, sums = (
            stack.enter_context(
                contextlib.closing(started("syscount", "-p", pid, "--syscall", call))
            )
            for _ in range(2)
        )
        for times, total in ((3, 3), (2, 5)):
            workload.do(times)
            (row,), (added,) = counts.collect().rows, sums.collect(cumulative=True).rows
            assert (row["syscall"], row["count"], added["count"]) == (call, times, total)


@pytest.mark.every_kernel
def test_all_tools_at_once_collect_and_print_nothing(
    workload: Workload, capfd: pytest.CaptureFixture[str]
) -> None:
    before = program_ids()
    with contextlib.ExitStack() as stack:
        traces = {
            tool: stack.enter_context(contextlib.closing(trace))
            for tool in (kinds(tool_names()) if EMULATED else tool_names())
            if (trace := started(tool, *EVERYTHING.get(tool, []))) is not None
        }
        seen: dict[str, list[Any]] = {tool: [] for tool in traces}
        for _ in range(2):
            workload.do(5)
            spin(0.3)
            for tool, trace in traces.items():
                seen[tool].append(trace.collect())
        for tool, (first, second) in seen.items():
            check(tool, first)
            check(tool, second)
            assert first.began <= first.ended == second.began <= second.ended
    wait_until_detached(before)
    assert capfd.readouterr() == ("", "")
    # What the workload and this machine's own life give each of them something to see of.
    silent = {tool for tool, (first, second) in seen.items() if not (first.rows and second.rows)}
    assert silent <= {
        "bashreadline", "bindsnoop", "biolatency", "biopattern", "biosnoop", "biotop", "bitesize",
        "bpfsnoop", "capable", "cputhrottle", "drsnoop", "fileslower", "fsslower", "funcslower",
        "gethostlatency", "hardirqs", "killsnoop", "klockstat", "mountsnoop", "oomkill", "skbdrop",
        "solisten", "syncsnoop", "tcpdrop", "tcpretrans", "tcptop",
    }  # fmt: skip


def spin(seconds: float) -> None:
    """Be busy: tools that sample CPUs see nothing of those that sleep."""
    spinning = "import time; t = time.process_time()\nwhile time.process_time() < t + {}: pass"
    subprocess.run(["/usr/bin/python3", "-S", "-c", spinning.format(seconds)], check=True)


def check(tool: str, collected: Any) -> None:
    """The rows are what --schema says."""
    schema = capture.load(tool).tool.schema()
    assert collected.kind == schema["kind"], tool
    for row in collected.rows:
        if collected.kind == "histograms":
            key, histogram = row
            assert isinstance(histogram, Histogram) and isinstance(key, dict), tool
            continue
        fields = {field["name"]: field for field in schema["fields"]}
        assert set(row) - {"ts"} <= set(fields), tool
        kinds = {
            "integer": (int,), "number": (int, float), "string": (str,), "boolean": (bool,),
        }  # fmt: skip
        for name, value in row.items():
            if name != "ts" and value is not None:
                assert isinstance(value, kinds[fields[name]["type"]]), (tool, name, value)
