"""A tool beside a child in a network namespace of its own, which has a wire there (wire.py)."""
from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Iterator

import wire
from support import PATIENCE, Tool, python_child

# Goes to the namespace that is given, and has step(), which tells the test of something, and waits
# for it; and grown(), what the namespace's counters have grown by since the start.
CHILD = r"""
import json, os, signal, socket, sys, time
signal.alarm(int(sys.argv[2]))
sys.path.insert(0, sys.argv[3])
from wire import *
enter(sys.argv[1])

def step(*told):
    print(json.dumps(told), flush=True)
    sys.stdin.readline()

def all_counters():
    found = {}
    for path, prefix in (("snmp", "Tcp"), ("netstat", "TcpExt"), ("snmp", "Udp")):
        for name, value in counters(path, prefix).items():
            found[name if prefix != "Udp" else "Udp" + name] = value
    return found

def grown():
    return {name: value - before.get(name, 0) for name, value in all_counters().items()}

def until(condition):
    while not condition():
        time.sleep(0.01)

before = all_counters()
"""


class Run:
    """A tool that has ended, and the child: its pid, and what it told at its last step."""

    def __init__(self, tool: Tool, pid: int) -> None:
        self.tool, self.pid = tool, pid
        self.told: list[Any] = []
        self.output = ""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What the tool printed, of JSON."""
        return [json.loads(line) for line in self.output.splitlines()]


@contextlib.contextmanager
def beside(tool: str, name: str, code: str, *options: str) -> Iterator[Run]:
    """Run a tool in that namespace, from the child's first step to the second: then the tool ends,
    and the child is still there."""
    arguments = name, f"{PATIENCE:.0f}", str(Path(wire.__file__).parent)
    with python_child(CHILD + code, *arguments) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"[]\n"
        with Tool(tool, "--netns", name, *options) as started:
            run = Run(started, child.pid)
            child.stdin.write(b"\n")
            child.stdin.flush()
            run.told = json.loads(child.stdout.readline())
            run.output = started.stop()
            yield run


def traced(tool: str, name: str, code: str, *options: str) -> Run:
    """The same, with JSON."""
    with beside(tool, name, code, "--json", *options) as run:
        return run
