"""exitsnoop tells of each process what wait(2) tells its parent."""
from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from typing import Any

import pytest

from support import Tool, end, python_child

# Starts processes one after the other, and prints of each its pid, what wait(2) said, and between
# which times it was born and ended, in seconds of the monotonic clock.
PROCESSES = r"""
import ctypes, json, os, resource, signal, sys, threading, time
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None)

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def from_another_thread():
    threading.Thread(target=os._exit, args=(9,)).start()
    time.sleep(600)

def after_the_first_thread():
    'The first thread ends, and nothing but that; then another one ends all.'
    threading.Thread(target=lambda: (time.sleep(0.01), os._exit(11))).start()
    libc.syscall(int(sys.argv[2]), 0)

def with_threads():
    for _ in range(8):
        threading.Thread(target=time.sleep, args=(600,)).start()
    os._exit(7)

ENDS = [
    *[lambda: os._exit(3)] * 100,
    *[lambda: os.kill(os.getpid(), signal.SIGKILL)] * 20,
    *[os.abort] * 5, crash, lambda: os._exit(0), lambda: os._exit(255),
    lambda: os.kill(os.getpid(), signal.SIGRTMIN + 2),
    from_another_thread, after_the_first_thread, *[with_threads] * 10,
]
print("ready", flush=True)
sys.stdin.readline()
found = []
for end in ENDS:
    go, gone = os.pipe()
    before = time.monotonic()
    pid = os.fork()
    if not pid:
        os.read(go, 1)
        end()
    born = time.monotonic()
    time.sleep(0.002)
    ends = time.monotonic()
    os.write(gone, b"x")
    status = os.waitpid(pid, 0)[1]
    found.append([pid, status, ends - born, time.monotonic() - before])
    os.close(go); os.close(gone)
print(json.dumps(found), flush=True)
sys.stdin.readline()
"""


THREAD_EXIT = {"x86_64": "60", "aarch64": "93"}.get(platform.machine(), "93")  # exit(2)'s number


def trace(folder: Any, *arguments: str) -> tuple[int, list[Any], list[dict[str, Any]]]:
    """The pid of the parent, what it knows, and what exitsnoop says of its children."""
    with python_child(PROCESSES, str(folder), THREAD_EXIT) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("exitsnoop", "--json", *arguments) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            known = json.loads(child.stdout.readline())
            events = [json.loads(line) for line in tool.stop().splitlines()]
        assert not any("lost" in event for event in events)
        return child.pid, known, [event for event in events if event["ppid"] == child.pid]


@pytest.mark.every_kernel
def test_says_of_each_end_what_wait_says(tmp_path: Any) -> None:
    parent, known, events = trace(tmp_path)
    assert [event["pid"] for event in events] == [pid for pid, *_ in known]
    for event, (_, status, least, most) in zip(events, known):
        killed = os.WIFSIGNALED(status)
        assert event["exit_code"] == (None if killed else os.WEXITSTATUS(status))
        assert event["signal"] == (os.WTERMSIG(status) if killed else None)
        assert event["core_dumped"] == os.WCOREDUMP(status)
        assert least <= event["age"] <= most
        assert event["tid"] == event["pid"]
    statuses = [status for _, status, *_ in known]
    assert statuses.count(3 << 8) == 100 and statuses.count(9) == 20 and 11 << 8 in statuses


@pytest.mark.any_types
def test_failures_are_all_but_zero(tmp_path: Any) -> None:
    _, known, events = trace(tmp_path, "-x")
    assert [event["pid"] for event in events] == [pid for pid, status, *_ in known if status]


def test_each_thread_has_its_own_end(tmp_path: Any) -> None:
    _, known, events = trace(tmp_path, "--per-thread")
    threads = {pid: [e for e in events if e["pid"] == pid] for pid, *_ in known}
    assert all(len({e["tid"] for e in each}) == len(each) for each in threads.values())
    for pid, status, _, most in known[-10:]:
        assert len(threads[pid]) == 9
        assert {e["exit_code"] for e in threads[pid]} == {7}
        assert all(e["age"] <= most for e in threads[pid])


def test_text_has_the_words(tmp_path: Any) -> None:
    shell = "sh -c 'exit 0'; sh -c 'exit 65'; sh -c 'kill -9 $$'; sh -c 'kill -s RTMIN+2 $$'; :"
    with Tool("exitsnoop", "--utc", "--label=") as tool:
        process = subprocess.Popen(["bash", "-c", shell])
        process.wait()
        head, *lines = tool.stop().splitlines()
    words = ["TIME-UTC", "LABEL", "PCOMM", "PID", "PPID", "TID", "AGE(s)", "EXIT_CODE"]
    assert head.split() == words
    found = [line for line in lines if line.split()[4] == str(process.pid)]
    ends = ["0", "code 65", "signal 9 (KILL)", "signal 36 (RTMIN+2)"]
    assert [re.split(r"\.\d\d +", line)[-1] for line in found] == ends
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{6} exit   sh ", line) for line in found)


@pytest.mark.any_types
def test_a_process_filter_is_one_of_processes() -> None:
    with python_child("import os, sys; sys.stdin.read(); os._exit(5)") as child:
        with Tool("exitsnoop", "--json", "-p", str(child.pid)) as tool:
            subprocess.run(["true"], check=True)
            end(child)
            (event,) = [json.loads(line) for line in tool.stop().splitlines()]
    assert (event["pid"], event["exit_code"]) == (child.pid, 5)
