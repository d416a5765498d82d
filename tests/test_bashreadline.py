"""bashreadline reports each line that is entered at bash's prompt, and nothing else."""
from __future__ import annotations

import contextlib
import ctypes.util
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from support import PATIENCE, Tool, run_tool

PROMPT = b"READY$ "
LIBRARY = ctypes.util.find_library("readline") or "libreadline.so.8"


class Terminal:
    """A program on a terminal of its own, that has prompted when the constructor returns."""

    def __init__(self, *command: str, **environment: str) -> None:
        self._master, slave = os.openpty()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={"PATH": os.environ["PATH"], "TERM": "dumb", "INPUTRC": "/dev/null",
                 "LC_ALL": "C.UTF-8", "PS1": PROMPT.decode(), "PS2": PROMPT.decode(),
                 **environment},
        )  # fmt: skip
        self.pid = self.process.pid
        os.close(slave)
        self._wait()

    def _wait(self) -> None:
        seen, deadline = b"", time.monotonic() + PATIENCE
        while PROMPT not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([self._master], [], [], 1)[0]:
                seen += os.read(self._master, 65536)

    def enter(self, line: bytes) -> None:
        """Type a line, and wait for the next prompt."""
        os.write(self._master, line + b"\n")
        self._wait()

    def end(self, line: bytes) -> None:
        """Type the last line, and wait for the end."""
        os.write(self._master, line)
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
            while os.read(self._master, 65536):
                pass
        self.process.wait()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@contextlib.contextmanager
def shell(program: str = "bash", **environment: str) -> Iterator[Terminal]:
    terminal = Terminal(program, "--norc", "--noprofile", "-i", **environment)
    try:
        yield terminal
    finally:
        terminal.close()


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def entered(output: str, pid: int) -> list[str]:
    return [event["command"] for event in events(output) if event["pid"] == pid]


@pytest.mark.every_kernel
def test_fifty_lines_of_a_shell_that_was_at_its_prompt_before(tmp_path: Path) -> None:
    lines = [f"echo line {number} 'a b' \"$HOME\" | cat >/dev/null" for number in range(50)]
    lines[7] = ": ünïcode \u20ac"
    lines[8] = "for i in 1 2; do :; done # comment"
    lines[9] = "   "
    lines[10] = ": " + "x" * 3000  # a terminal takes no longer line than 4095 bytes
    history = tmp_path / "history"
    with shell(HISTFILE=str(history), HISTSIZE="1000") as terminal:
        with Tool("bashreadline", "--json") as tool:
            for line in lines:
                terminal.enter(line.encode())
            terminal.end(b"exit 3\n")
            output = tool.stop()
    assert terminal.process.returncode == 3
    assert entered(output, terminal.pid) == [*lines, "exit 3"]
    # As bash itself has it: without the one that is blank.
    kept = history.read_text(errors="surrogateescape").splitlines()
    assert [line for line in entered(output, terminal.pid) if line.strip()] == [
        line for line in kept if line.strip()
    ]
    assert {event["uid"] for event in events(output)} == {os.getuid()}


@pytest.mark.host_only
def test_lines_of_any_length() -> None:
    """By way of a pipe, for a terminal takes no such lines."""
    lines = [": " + "x" * (size - 2) for size in (4094, 4095, 4096, 8190, 8191, 20_000)]
    lines.append(": " + "y" * 140_000)
    with Tool("bashreadline", "--json") as tool:
        with subprocess.Popen(
            ["bash", "--norc", "-i"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"TERM": "dumb"},
        ) as child:
            child.communicate("\n".join(lines).encode() + b"\n", timeout=PATIENCE)
        output = tool.stop()
    *whole, cut = [event for event in events(output) if event["pid"] == child.pid]
    assert [event["command"] for event in whole] == lines[:-1]
    assert {event["cut"] for event in whole} == {False}
    assert cut["command"] == lines[-1][: 32 * 4095] and cut["cut"] is True


@pytest.mark.any_types
def test_shells_of_several_binaries_that_start_later(tmp_path: Path) -> None:
    """Installed, a copy, and a copy that was deleted."""
    real = os.path.realpath(shutil.which("bash") or "/bin/bash")
    copies = [tmp_path / "bash", tmp_path / "bash-deleted"]
    for copy in copies:
        shutil.copy(real, copy)
    with contextlib.ExitStack() as stack:
        shells = [stack.enter_context(shell(str(copies[1])))]
        copies[1].unlink()
        tool = stack.enter_context(Tool("bashreadline", "--json"))
        shells += [stack.enter_context(shell(str(path))) for path in ("bash", copies[0], copies[0])]
        # The second has ended what it does at its start: it was found by then.
        wait_until_attached(tool, copies[0])
        for terminal in shells:  # one that was at its prompt before is seen from the next one on
            terminal.enter(b": first")
        for number in range(10):
            for place, terminal in enumerate(shells):
                terminal.enter(b": %d of %d" % (number, place))
        # Scripts and commands of -c read no line.
        subprocess.run([real, "-c", "echo x | { read -r y; }"], check=True)
        subprocess.run([real], input=b"echo script\n", check=True, stdout=subprocess.DEVNULL)
        output = tool.stop()
    pids = [terminal.pid for terminal in shells]
    for place, pid in enumerate(pids):
        seen = [line for line in entered(output, pid) if line != ": first"]
        assert seen == [f": {number} of {place}" for number in range(10)]
    assert not {"echo script", "echo x | { read -r y; }"} & {e["command"] for e in events(output)}


def wait_until_attached(tool: Tool, path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    text = f" at {os.path.realpath(path)}+".encode()
    while text not in tool.messages:
        assert time.monotonic() < deadline, tool.messages.decode()
        assert tool.process.stderr is not None
        if select.select([tool.process.stderr], [], [], 1)[0]:
            tool.messages += os.read(tool.process.stderr.fileno(), 65536)


@pytest.mark.host_only
def test_a_terminal_sees_no_control_character() -> None:
    with shell() as one, shell() as other:
        with Tool("bashreadline", "-U", "-p", str(one.pid)) as tool:
            other.enter(b": other")
            # Ctrl-V has the next character taken as it is.
            one.enter(b": \x16\x1b[31mred\\")
            one.enter(b"go on")
            one.enter(b": no\x08\x7fyes")  # edited before it is entered
            one.end(b"\x04")  # the end of the file is no line
            output = tool.stop()
    rows = [line.split(None, 3) for line in output.splitlines()]
    assert rows[0] == ["TIME", "UID", "PID", "COMMAND"]
    assert [row[1:] for row in rows[1:]] == [
        [str(os.getuid()), str(one.pid), command]
        for command in (r": \x1b[31mred\\", "go on", ": yes")
    ]


# Reads lines with libreadline, and says what each was.
READER = f"""
import ctypes, os, sys
library = ctypes.CDLL({LIBRARY!r})
library.readline.restype = ctypes.c_char_p
while library.readline({PROMPT!r}):
    pass
"""


@pytest.mark.any_types
def test_the_library_s_readline_in_bash_and_in_no_other_program(tmp_path: Path) -> None:
    """Shells that are linked with libreadline: Python by the name of bash stands for one."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        pytest.skip("libreadline is not installed")
    program = tmp_path / "bash5"
    shutil.copy(os.path.realpath(sys.executable), program)
    home = {"PYTHONHOME": f"{sys.prefix}:{sys.exec_prefix}"}
    with contextlib.ExitStack() as stack:
        bash = Terminal(str(program), "-c", READER, **home)
        stack.callback(bash.close)
        python = Terminal(sys.executable, "-c", READER)
        stack.callback(python.close)
        with Tool("bashreadline", "--json") as tool:
            for number in range(10):
                for terminal in (python, bash):
                    terminal.enter(b"line %d" % number)
            output = tool.stop()
        with open(f"/proc/{python.pid}/maps") as maps:
            library = next(line.split()[-1] for line in maps if "libreadline.so" in line)
        with Tool("bashreadline", "--json", "-s", library) as tool:
            python.enter(b"by its library")
            by_library = tool.stop()
        with Tool("bashreadline", "--json", "-s") as tool:
            python.enter(b"by that of the system")
            by_default = tool.stop()
    assert entered(output, bash.pid) == [f"line {number}" for number in range(10)]
    assert entered(output, python.pid) == []
    assert entered(by_library, python.pid) == ["by its library"]
    assert entered(by_default, python.pid) == ["by that of the system"]


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("path", "message"),
    [("/missing", "cannot read /missing: ENOENT"), ("/bin/true", "has no function readline")],
)
def test_a_file_without_readline_is_named(path: str, message: str) -> None:
    result = run_tool("bashreadline", "-s", path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("bashreadline: ") and message in result.stderr
    assert result.stderr.count("\n") == 1
