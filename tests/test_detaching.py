"""What was counted does not wait for the kernel to let the programs go."""
from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Sequence

import pytest

from programs import program_ids, wait_until_detached
from pytools.base.beside import Beside
from support import PATIENCE, TOOLS

# A tool under a kernel that detaches nothing, and ends no generation, until there is a line on the
# tool's standard input: as one with PREEMPT_RT whose CPU a real-time task has.
DRIVER = f"""
import runpy, sys
sys.path.insert(0, {str(TOOLS)!r})
from pytools.load.maps import Map
from pytools.load.program import Program
from pytools.tool import definition

definition.SAID_AFTER_SECONDS = 0.1

def slow(function, applies=lambda each: True):
    def called(self, *arguments):
        if applies(self):
            with open(0, closefd=False) as given:
                given.readline()
        return function(self, *arguments)
    return called

Program.detach = slow(Program.detach)
Map.put = slow(Map.put, lambda each: each.spec.name == "outer")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SLOW = (
    "waiting for the kernel to detach the programs: a task keeps a CPU from it, such as a "
    "real-time task that spins"
)


def read_to(file: int, words: bytes) -> bytes:
    data = b""
    while words not in data:
        assert select.select([file], [], [], PATIENCE)[0], data
        more = os.read(file, 65536)
        assert more, data
        data += more
    return data


host_only = pytest.mark.host_only


@pytest.mark.any_types
@pytest.mark.parametrize(
    "tool, options, expected",
    [
        pytest.param("runqlat", ["--json"], b'"buckets": [{', id="histograms", marks=host_only),
        pytest.param(
            "cpudist", ["-P", "--json"], b'"buckets": [{', id="generations", marks=host_only
        ),
        pytest.param("syscount", ["--json"], b'"syscall": "getppid"', id="table", marks=host_only),
        pytest.param(
            "syscount", ["-L", "--json"], b'"syscall": "getppid"', id="totals", marks=host_only
        ),
        pytest.param("offcputime", ["--json"], b'"usecs": ', id="stacks"),
        pytest.param("opensnoop", ["--json"], b'"path": "/dev/null"', id="events"),
    ],
)
def test_what_was_counted_is_printed_first(
    tool: str, options: Sequence[str], expected: bytes, tmp_path: Path
) -> None:
    before = program_ids()
    filters = ["-p", str(os.getpid())] * (tool in ("syscount", "opensnoop"))
    path = tmp_path / "printed"
    with open(path, "wb") as output, subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(TOOLS / tool), "-v", *options, *filters],
        stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stderr
        try:
            read_to(child.stderr.fileno(), b"Hit Ctrl-C to end.")
            os.close(os.open("/dev/null", os.O_RDONLY))
            os.getppid()
            child.send_signal(signal.SIGINT)
            # It stands there when the tool begins to wait.
            messages = read_to(child.stderr.fileno(), SLOW.encode())
            assert f"{tool}: {SLOW}".encode() in messages
            assert set(program_ids()) - set(before)  # still attached
            printed = path.read_bytes()
            assert expected in printed
            child.communicate(b"\n\n\n", timeout=PATIENCE)
            assert (child.returncode, path.read_bytes()) == (0, printed)
        finally:
            child.kill()
    wait_until_detached(before)


def test_what_fails_beside_fails_where_it_is_waited_for() -> None:
    def fails() -> None:
        raise ValueError("it failed")

    waiting = Beside(fails)
    with pytest.raises(ValueError, match="it failed"):
        waiting.wait(None)
    assert waiting.wait(None)  # once
