"""Names of processes and threads: which ones a pattern matches, in Python and in the kernel."""
from __future__ import annotations

import fnmatch
import re
import json
import subprocess
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from pytools.base.errors import Usage
from pytools.tool.name_filters import NAME_BYTES, matches, name_pattern
from support import Tool, on_host_only, python_child

NAMES = ["nginx-worker", "nginx-cache", "nginx", "worker-nginx", "n", "a[b]c", "exactly15letter"]
PATTERNS = [
    "nginx", "nginx-*", "*-nginx", "*-*", "?", "n?inx*", "[!n]*", "*[a-k]", "exactly15letter",
    "exactly15lette?", "*y1*", "a[[]b]c", "*", "ngin",
]  # fmt: skip


@hypothesis.given(
    st.text("ab-[]!*?", max_size=8), st.text("ab-[]!*?", min_size=1, max_size=NAME_BYTES)
)
def test_patterns_are_those_of_a_shell(pattern: str, name: str) -> None:
    try:
        found = name_pattern(pattern, "--comm").matches(name.encode())
    except Usage:
        found = False
    try:
        expected = fnmatch.fnmatchcase(name, pattern)
    except re.error:  # what Python 3.9 makes of a range without characters
        hypothesis.reject()
    assert found == expected


@hypothesis.given(
    st.text("ab*?", min_size=1, max_size=5), st.text("ab", min_size=1, max_size=NAME_BYTES)
)
def test_a_part_may_stand_anywhere(pattern: str, name: str) -> None:
    found = name_pattern(pattern, "-n", within=True).matches(name.encode())
    assert found == fnmatch.fnmatchcase(name, f"*{pattern}*")


@pytest.mark.parametrize("pattern", ["", "x" * 16, "?" * 16, "\u00e9" * 8, "[b-a]", "*" + "x" * 16])
def test_what_no_name_can_be_is_refused(pattern: str) -> None:
    with pytest.raises(Usage, match="argument --comm: (no command's name|nothing matches)"):
        name_pattern(pattern, "--comm")


# Opens a file of the name of each thread, also in processes of that name, when it is told.
NAMED = r"""
import ctypes, os, sys, threading
libc = ctypes.CDLL(None)
PR_SET_NAME = 15
folder, *names = sys.argv[1:]
go = threading.Event()

def run(name):
    libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
    go.wait()
    try:
        open(f"{folder}/{name}")
    except OSError:
        pass

threads = [threading.Thread(target=run, args=[name]) for name in names]
for thread in threads:
    thread.start()
libc.prctl(PR_SET_NAME, b"the process", 0, 0, 0)
print("ready", flush=True)
sys.stdin.readline()
go.set()
for thread in threads:
    thread.join()
for name in names:
    if not os.fork():
        run(name)
        os._exit(0)
    os.wait()
print("done", flush=True)
sys.stdin.readline()
"""
FOLDER = "/no/such/folder"


def opened(*arguments: str) -> list[dict[str, Any]]:
    """What opensnoop shows of these threads and processes."""
    with python_child(NAMED, FOLDER, *NAMES) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        named = subprocess.run(
            ["ps", "-o", "comm=", str(child.pid)], stdout=subprocess.PIPE, text=True
        )
        assert named.stdout == "the process\n"
        with Tool("opensnoop", "--json", *arguments) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            events = [json.loads(line) for line in tool.stop().splitlines()]
    assert not any("lost" in event for event in events)
    return [event for event in events if (event["path"] or "").startswith(FOLDER)]


def test_a_thread_has_its_own_name_beside_that_of_its_process() -> None:
    found = opened()
    pairs = [(event["comm"], event["thread"]) for event in found]
    expected = [("the process", name) for name in NAMES] + [(name, name) for name in NAMES]
    assert sorted(pairs) == sorted(expected)


@pytest.mark.parametrize("pattern", ["nginx-*", "n?inx*", *on_host_only(*PATTERNS)])
def test_the_kernel_matches_as_a_shell_does(pattern: str) -> None:
    """A process by its own name, whichever thread it is that opens."""
    expected = [(name, name) for name in NAMES if fnmatch.fnmatchcase(name, pattern)]
    if fnmatch.fnmatchcase("the process", pattern):
        expected += [("the process", name) for name in NAMES]
    found = [(event["comm"], event["thread"]) for event in opened("--comm", pattern)]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("pattern", ["*-*", *on_host_only("nginx", "nginx-*")])
def test_a_thread_is_found_by_its_own_name(pattern: str) -> None:
    names = [name for name in NAMES if fnmatch.fnmatchcase(name, pattern)]
    found = [(event["comm"], event["thread"]) for event in opened("--thread", pattern)]
    assert sorted(found) == sorted(
        [("the process", name) for name in names] + [(name, name) for name in names]
    )


@pytest.mark.host_only
def test_the_filters_together() -> None:
    found = opened("--comm", "the*", "--thread", "*x", "-n", "proc?ss")
    assert sorted(event["thread"] for event in found) == ["nginx", "worker-nginx"]
    assert {event["comm"] for event in found} == {"the process"}


@pytest.mark.host_only
def test_a_name_that_only_threads_have_is_said_to_be_one() -> None:
    with python_child(NAMED, FOLDER, "only a thread") as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("opensnoop", "--comm", "only*") as tool:
            tool.stop()
        assert b"opensnoop: no process has the name only*, but" in tool.messages
        with Tool("opensnoop", "--comm", "the*") as tool:
            tool.stop()
        assert b"no process has the name" not in tool.messages


@pytest.mark.every_kernel
def test_matches_what_comm_says() -> None:
    assert matches("a*", "abc") and not matches("a", "abc")
