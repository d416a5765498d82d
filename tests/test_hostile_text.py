"""What users choose to be called reaches people and programs as text, and as nothing else.

A process whose every name is hostile does what the tools report: its command, its arguments, its
files, its cgroup, the hosts that it looks up. Each tool sees it, in each form.
"""
from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from support import Tool, needs_btf, parameter, python_child, tool_names

pytestmark = [pytest.mark.host_only, needs_btf]

# A title and a clipboard for the terminal, a C1 control as a byte and as a character, text from
# right to left, ends of lines, what ends fields of CSV, JSON, stacks and markup, a formula.
PARTS = (
    b"=1+1", b"\x1b]0;evil\x07\x1b[2J", b"\x9b31m\xc2\x9b31m", "\u202egpj.\u2066\u200b".encode(),
    b"\r\na,b\"c';d|e\tf", b"</title><script>alert(1)</script>&lt;", b"\\x1b[31m", b"\xff\xfe",
    "e\u0301\u0301\u0301\u0301\u0301\u0301\ufe0f\u3164".encode(),
)  # fmt: skip
NAME = b"".join(PARTS)  # of files
COMMANDS = [b"=" + part[:14] for part in PARTS]

CHILD = r"""
import contextlib, ctypes, os, socket, sys, time
folder, names, commands = os.fsencode(sys.argv[1]), *map(eval, sys.argv[2:4])
libc = ctypes.CDLL(None)

def act(name, command):
    libc.prctl(15, command, 0, 0, 0)
    path = folder + b"/" + name
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    with open(path, "wb") as file:
        file.write(b"#!/bin/true\n")
    os.chmod(path, 0o755)
    if not os.fork():
        os.execv(path, [path, name, b"=" + name, b""])
    os.wait()
    os.unlink(path)
    with contextlib.suppress(OSError):
        os.open(path, os.O_RDONLY)
    libc.getaddrinfo(b"=" + name[:60], None, None, ctypes.byref(ctypes.c_void_p()))
    listener, made = socket.socket(), socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    made.connect(listener.getsockname()); made.send(b"x"); listener.accept()[0].recv(1)
    made.close()
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        pass

print("ready", flush=True)
for line in sys.stdin:
    for number, name in enumerate(names):
        act(name, commands[number % len(commands)])
    os.sync()
    print("done", flush=True)
"""
FORMS: list[list[str]] = [[], ["--json"], ["--csv"]]
WITH = {"execsnoop": ["--quote"], "opensnoop": ["--container"]}


@contextlib.contextmanager
def hostile_cgroup() -> Iterator[Path]:
    """A cgroup of version 2 whose name is as hostile as it can be."""
    with contextlib.ExitStack() as stack:
        point = Path("/sys/fs/cgroup")
        for unified in (point / "unified", point):
            if (unified / "cgroup.controllers").exists():
                point = unified
                break
        folder = point / os.fsdecode(
            b"pytools-" + NAME.replace(b"\n", b"").replace(b"/", b"")[:200]
        )
        try:
            folder.mkdir()
        except OSError:
            pytest.skip("no cgroups of version 2 to be had")
        stack.callback(folder.rmdir)
        yield folder


@pytest.fixture(scope="module")
def actor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[bytes]]:
    folder = tmp_path_factory.mktemp("hostile")
    names = [part.replace(b"/", b"") for part in PARTS] + [NAME.replace(b"/", b"")[:200]]
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(pytest.skip.Exception):
            cgroup = stack.enter_context(hostile_cgroup())
        child = stack.enter_context(python_child(CHILD, str(folder), repr(names), repr(COMMANDS)))
        assert child.stdout and child.stdout.readline() == b"ready\n"
        with contextlib.suppress(NameError):
            (cgroup / "cgroup.procs").write_text(str(child.pid))
        yield child
        child.kill()
        child.communicate()


def is_text(output: str) -> bool:
    return output.replace("\n", "").isprintable()


@pytest.mark.parametrize("tool", [parameter(tool) for tool in tool_names()])
def test_hostile_names_are_text(tool: str, actor: subprocess.Popen[bytes]) -> None:
    assert actor.stdin and actor.stdout
    with contextlib.ExitStack() as stack:
        tools = [stack.enter_context(Tool(tool, *WITH.get(tool, []), *form)) for form in FORMS]
        actor.stdin.write(b"act\n")
        actor.stdin.flush()
        assert actor.stdout.readline() == b"done\n"
        text, lines, table = [each.stop() for each in tools]
        messages = b"".join(each.messages for each in tools).decode()
    assert is_text(text)
    assert is_text(messages.replace("\t", ""))
    assert lines.isascii() and is_text(lines)
    for line in lines.splitlines():
        json.loads(line)
    assert is_text(table)
    rows = list(csv.reader(io.StringIO(table)))
    assert len({len(row) for row in rows}) <= 1
    for row in rows:
        for field in row:
            assert not field.startswith(("=", "+", "@", "\t"))


@pytest.mark.parametrize("tool", ["profile", "offcputime", "offwaketime", "wakeuptime"])
def test_hostile_names_are_no_markup(
    tool: str, actor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    from xml.etree import ElementTree

    graph, document = tmp_path / "graph.svg", tmp_path / "document.json"
    assert actor.stdin and actor.stdout
    with Tool(tool, "--svg", str(graph), "--speedscope", str(document)) as traced:
        actor.stdin.write(b"act\n")
        actor.stdin.flush()
        assert actor.stdout.readline() == b"done\n"
        traced.stop()
    elements = list(ElementTree.fromstring(graph.read_bytes()).iter())
    scripts = [each for each in elements if each.tag.endswith("script")]
    assert len(scripts) == 1 and "alert" not in (scripts[0].text or "")
    names = [each.text or "" for each in elements if each.tag.endswith("title")]
    assert any(name.startswith("=") for name in names) and all(map(str.isprintable, names))
    # What handles events is in the script only, and nothing is loaded from elsewhere.
    for each in elements:
        assert not any(name.startswith("on") or "href" in name for name in each.attrib)
    assert document.read_text().isascii() and json.loads(document.read_text())["profiles"]
