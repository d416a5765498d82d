"""The options, signals and exit statuses that all tools have in common, on every tool."""
from __future__ import annotations

import contextlib
import csv
import fcntl
import functools
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from typing import Any, Iterator

import pytest

import capture
from programs import program_ids, wait_until_detached
from pytools import __version__
from support import (
    EMULATED,
    MISSING,
    PATIENCE,
    TOOLS,
    Tool,
    all_tools,
    cgroups,
    hooks,
    in_fork,
    kinds,
    needed,
    on_host_only,
    one_in_matrix,
    one_of_each_kind,
    parameter,
    python_child,
    run_tool,
    tool_names,
)

TOOL_NAMES = tool_names()
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
every_name = pytest.mark.parametrize("tool", all_tools())
# What a Python of another time may do otherwise with any tool.
one_name = pytest.mark.parametrize("tool", [all_tools()[0], *on_host_only(*all_tools()[1:])])
every_tool = pytest.mark.parametrize("tool", [parameter(tool) for tool in TOOL_NAMES])
one_tool = pytest.mark.parametrize("tool", one_in_matrix(TOOL_NAMES))
KINDS = kinds(TOOL_NAMES)
# For what the library does of all tools.
each_kind = pytest.mark.parametrize("tool", one_in_matrix(KINDS))
host_only = pytest.mark.host_only


@functools.lru_cache(maxsize=None)
def summarises(tool: str) -> bool:
    """Whether a tool prints summaries (otherwise: events)."""
    return any(
        action.dest == "interval" and not action.option_strings
        for action in capture.load(tool).parser._actions
    )


def has_timestamp(tool: str) -> bool:
    return any(action.dest == "timestamp" for action in capture.load(tool).parser._actions)


@functools.lru_cache(maxsize=None)
def reports(tool: str) -> bool:
    """Whether a tool prints all that it prints at its end."""
    return any(
        action.dest in ("folded", "patterns") for action in capture.load(tool).parser._actions
    )


# Asks for the number of a program that there is not, again and again.
BPF_CALLS = """
import contextlib, time
from pytools.base import system
print(flush=True)
while True:
    with contextlib.suppress(OSError):
        system.bpf(11, bytearray(12))
    time.sleep(0.001)
"""


# Emulated, the programs that it runs take a processor's whole time otherwise.
PAUSE = 0.05 if EMULATED else 0.001
# What the activity is, for tools that see nothing of the usual one.
SPECIAL = {
    "gethostlatency": "getent ahosts localhost >/dev/null",
    "bashreadline": "echo : | bash --norc -i >/dev/null 2>&1",
    "capable": "chroot / true",
    "killsnoop": "kill -0 $$",
    "syncsnoop": 'sync -d "$0"',
}
# Two threads that hand each other the turn.
FUTEXES = """
import threading, time
first, second = threading.Semaphore(), threading.Semaphore(0)
def turns(mine, others):
    while True:
        mine.acquire()
        time.sleep(0.005)
        others.release()
threading.Thread(target=turns, args=(second, first), daemon=True).start()
print(flush=True)
turns(first, second)
"""


SESSIONS = """
import socket, threading, time

def send():
    # Goes on where a session waits for a packet that was lost.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        while True:
            made.sendto(b"x", listener.getsockname())
            time.sleep(0.001)

listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=send, daemon=True).start()
print("ready", flush=True)
while True:
    with socket.create_connection(listener.getsockname()), listener.accept()[0]:
        time.sleep(0.001)
"""


LISTENS = """
import socket, time
print("ready", flush=True)
while True:
    socket.create_server(("127.0.0.1", 0)).close()
    time.sleep(0.001)
"""


# SYNs that are dropped, because their port is closed; and others that are sent again, because the
# listener's queue is full.
UNANSWERED = """
import collections, socket, time
closed, full = socket.socket(), socket.socket()
for made in (closed, full):
    made.bind(("127.0.0.1", 0))
full.listen(0)
first = socket.create_connection(full.getsockname())
waiting = collections.deque(maxlen=200)
ready = False
while True:
    waiting.append(socket.socket())
    waiting[-1].setblocking(False)
    waiting[-1].connect_ex(full.getsockname())
    with socket.socket() as refused:
        refused.connect_ex(closed.getsockname())
    time.sleep(0.02)
    info = waiting[0].getsockopt(socket.IPPROTO_TCP, 11, 104)  # TCP_INFO
    if not ready and any(info[100:104]):  # tcpi_total_retrans
        ready = True
        print(flush=True)
"""


# A session over which data go all the time.
TRAFFIC = """
import socket, time
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server = listener.accept()[0]
print("ready", flush=True)
while True:
    client.send(bytes(1000))
    server.recv(1000)
    time.sleep(0.005)
"""


# Programs that do what a tool sees, of which the usual activity has nothing.
PROGRAMS = {
    "tcptop": TRAFFIC,
    **dict.fromkeys(("bindsnoop", "solisten"), LISTENS),
    "bpfsnoop": BPF_CALLS,
    "futexctn": FUTEXES,
    **dict.fromkeys(("tcpretrans", "tcpdrop", "skbdrop"), UNANSWERED),
    **dict.fromkeys(
        (
            "tcpaccept", "tcpconnect", "tcpconnlat", "tcplife", "tcprtt", "tcpstates",
            "tcptracer", "flowtop",
        ),
        SESSIONS,
    ),  # fmt: skip
}


# Writes a file until somebody ends it.
WRITES = """
import sys, tempfile
with tempfile.TemporaryFile(dir=sys.argv[1], buffering=0) as file:
    print(flush=True)
    sys.stdin.readline()
    while True:
        file.seek(0)
        for _ in range(48):
            file.write(bytes(1 << 20))
"""
# What reaches a limit of its cgroup, for tools that see that: the controller, the limit by the
# names that the file has, and a program.
LIMITED = {
    "drsnoop": ("memory", ("memory.max", "memory.limit_in_bytes"), "32M", WRITES),
    "cputhrottle": (
        "cpu", ("cpu.max",), "10000 50000", "print(flush=True)\ninput()\nwhile True: pass"
    ),
}  # fmt: skip


@contextlib.contextmanager
def limited(tool: str, folder: str) -> Iterator[None]:
    """A program that reaches a limit of its cgroup."""
    controller, files, limit, code = LIMITED[tool]
    with cgroups(1, controller) as (cgroup,), python_child(code, folder) as program:
        next(cgroup / name for name in files if (cgroup / name).exists()).write_text(limit)
        assert program.stdin and program.stdout and program.stdout.readline()
        (cgroup / "cgroup.procs").write_text(str(program.pid))
        program.stdin.write(b"\n")
        program.stdin.flush()
        yield


@contextlib.contextmanager
def activity(tool: str) -> Iterator[None]:
    """Something for the tool to see: for most, a process that opens, creates and
    deletes files, switches, and writes to a disk."""
    if tool in PROGRAMS:
        code = f"import sys; sys.path[:0] = {sys.path!r}\n{PROGRAMS[tool]}"
        with python_child(code) as program:
            assert program.stdout is not None and program.stdout.readline()
            yield
        return
    # Not on a file system in memory, as /tmp may be.
    folder = os.environ.get("PYTOOLS_SCRATCH") or tempfile.gettempdir()
    if tool in LIMITED:
        with limited(tool, folder):
            yield
        return
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        write = 'dd if=/dev/zero of="$0" bs=4096 count=1 oflag=direct conv=notrunc 2>/dev/null'
        remove = ': >"$0.new"; rm "$0.new"'
        usual = f": </dev/null; {write}; {remove}"
        loop = f"while :; do {SPECIAL.get(tool, usual)}; sleep {PAUSE}; done"
        child = subprocess.Popen(["sh", "-c", loop, file.name])
        try:
            yield
        finally:
            child.kill()
            child.wait()


# Arguments with which a tool shows what it leaves out without.
EVERYTHING = {"runqslower": ["1"], "memleak": ["-o", "0"], "funcslower": ["-u", "0"]}


def seconds(tool: str) -> str:
    """How long it takes a tool to see some of the activity."""
    # Samples are few, and of a CPU that is busy.
    return "2" if tool in SPECIAL else "1" if reports(tool) else "0.3"


# What is printed.


@host_only
@every_name
def test_version_and_help_are_the_parser_s(tool: str) -> None:
    for option, text in (
        ("--version", f"pytools {__version__}\n"),
        ("--help", capture.load(tool).parser.format_help()),
    ):
        result = in_fork(tool, option)
        assert (result.returncode, result.stdout, result.stderr) == (0, text, "")


@one_name
def test_help_names_every_option_within_80_columns(tool: str) -> None:
    """In each userland: Python's argparse writes it."""
    text = capture.load(tool).parser.format_help()
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"usage: {tool} ")
    for action in capture.options(tool):
        for name in action.option_strings:
            assert name in text
        assert action.help
    assert "examples:\n" in text


@one_name
def test_examples_in_the_help_are_valid(tool: str) -> None:
    module = capture.load(tool)
    text = str(module.__doc__).partition("examples:\n")[2]
    text = re.sub(r"\n {20,}", "   ", text)  # an explanation on a line of its own
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith(tool)]
    assert lines
    for line in lines:
        command = re.split(r"\s{2,}| \| ", line)[0].split()
        module.parser.parse_args(command[1:])


@one_tool
def test_text_json_and_csv(tool: str) -> None:
    """Three at once see the same: text on a terminal, JSON, and CSV until Ctrl-C."""
    before = program_ids()
    everything = EVERYTHING.get(tool, [])
    stamped = ["--timestamp"] if summarises(tool) and has_timestamp(tool) else []
    intervals = ["0.1", "3"] if summarises(tool) else ["--duration", seconds(tool)]
    options = needed(tool, ["--json", *stamped, *everything, *intervals])
    with activity(tool), Tool(tool, "--csv", *everything) as csv_tool:
        with subprocess.Popen(
            [TOOLS / tool, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as json_tool:
            lines, hints = on_terminal(tool, *stamped, *everything, "--duration", seconds(tool))
            output, messages = json_tool.communicate(timeout=PATIENCE)
        rows = list(csv.reader(io.StringIO(csv_tool.stop())))
    check_text(tool, lines, hints)
    assert (json_tool.returncode, MISSING.sub(b"", messages)) == (0, b"")
    records = [json.loads(line) for line in output.splitlines()]
    # What is missing is in a record of its own.
    records = [record for record in records if not {"lost", "unmatched"} & set(record)]
    check_json(tool, records)
    check_csv(rows)
    if not summarises(tool) and "buckets" not in records[0]:
        assert rows[0] == list(records[0])
    said = MISSING.sub(b"", csv_tool.messages).decode().splitlines()
    hint = re.compile(r".*\.\.\.$|.*\bHit Ctrl-C to end\.$")  # two lines if it is too long for one
    assert all(line.startswith(f"{tool}: ") or hint.match(line) for line in said), said
    wait_until_detached(before)


def on_terminal(tool: str, *options: str) -> list[list[str]]:
    """The lines on standard output and on standard error of a tool at whose ends are
    pseudo-terminals of 80 columns, as at the prompt."""
    ends = [pty.openpty(), pty.openpty()]
    for _, slave in ends:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [str(TOOLS / tool), *needed(tool, options)], stdout=ends[0][1], stderr=ends[1][1]
    )
    printed = []
    for master, slave in ends:
        os.close(slave)
        data = b""
        with contextlib.suppress(OSError):  # EIO: the last descriptor of the other end is closed
            while part := os.read(master, 65536):
                data += part
        os.close(master)
        printed.append(data.decode("utf-8", "replace").splitlines())
    assert process.wait(PATIENCE) == 0, printed
    return printed


# bcc's columns, which take so much room there as well.
WIDER = {"tcpstates": 116}


def check_text(tool: str, lines: list[str], hints: list[str]) -> None:
    """Lines within 80 columns, and the hint."""
    assert any("Hit Ctrl-C to end." in line for line in hints)
    # What a busy machine has a tool lose is said in a line as long as that takes.
    assert all(len(line) <= 80 or " lost" in line for line in hints)
    if summarises(tool):
        if has_timestamp(tool):
            assert re.fullmatch(r"\d\d:\d\d:\d\d", lines[0])
    assert lines
    # The last column, and nothing before it, may be longer: a name is shown whole, also that of a
    # function, which has a line of its own.
    for line in lines if summarises(tool) else lines[:1]:
        assert len(line) <= WIDER.get(tool, 80) or re.fullmatch(r" {4}\S.*", line)


def check_json(tool: str, records: list[dict[str, Any]]) -> None:
    """Records of the documented shape, in each of three intervals."""
    assert records
    if summarises(tool):
        assert len({record["ts"] for record in records}) == 3
    for record in records:
        assert TIMESTAMP.fullmatch(record["ts"])
        if "buckets" in record:
            assert record["tool"] == tool
            assert isinstance(record["key"], dict) and isinstance(record["unit"], str)
            assert record["scale"] in ("linear", "log2")
            assert sum(bucket["count"] for bucket in record["buckets"]) == record["samples"] > 0
            for bucket in record["buckets"]:
                assert list(bucket) == ["lo", "hi", "count"]
                assert 0 <= bucket["lo"] <= bucket["hi"]
        else:
            assert list(record) == list(records[0])
            assert all(key == key.lower() for key in record)
            assert not any(isinstance(value, (dict, list)) for value in record.values())


def check_csv(rows: list[list[str]]) -> None:
    """One heading, and rows of its width."""
    assert rows[0][0] == "ts" and len(rows) > 1
    assert {len(row) for row in rows} == {len(rows[0])}
    assert all(TIMESTAMP.fullmatch(row[0]) for row in rows[1:])


@one_tool
def test_ebpf_prints_c_and_attaches_nothing(tool: str) -> None:
    before = program_ids()
    result = run_tool(tool, "--ebpf")
    assert (result.returncode, result.stderr) == (0, "")
    wait_until_detached(before)
    assert "$" not in re.sub(r"/\*.*?\*/", "", result.stdout, flags=re.S)
    assert re.search(r"^int \w+\(", result.stdout, re.M)


# How it ends.


def arguments(tool: str) -> list[str]:
    if reports(tool):
        return ["--json", "--duration", "1"]
    return ["--json", "0.1"] if summarises(tool) else ["--json", *EVERYTHING.get(tool, [])]


@host_only
@each_kind
def test_head_ends_a_tool_quietly(tool: str) -> None:
    before = program_ids()
    with activity(tool):
        process = subprocess.Popen(
            [str(TOOLS / tool), *needed(tool, arguments(tool))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        messages = process.stderr.read()
        process.stderr.close()
        assert (process.wait(PATIENCE), MISSING.sub(b"", messages)) == (0, b"")
    wait_until_detached(before)


@host_only
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
@each_kind
def test_a_reader_that_leaves_before_anything_is_printed_ends_a_tool(
    tool: str, options: list[str]
) -> None:
    """Without an event or an interval's end to be written."""
    before = program_ids()
    silent = ["1000000"] if summarises(tool) else ["-p", str(os.getpid())]
    if not summarises(tool) and "--interval" in capture.load(tool).parser._option_string_actions:
        silent = ["--interval", "1000000"]
    reading, writing = os.pipe()
    with Tool(tool, *options, *silent, stdout=writing) as running:
        os.close(writing)
        os.close(reading)
        running.wait()
    wait_until_detached(before)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=host_only),
        pytest.param(signal.SIGHUP, marks=host_only),
    ],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],  # each Python has another name for them
)
@each_kind
def test_a_signal_ends_a_tool_with_its_last_summary(tool: str, number: int) -> None:
    before = program_ids()
    with activity(tool), Tool(tool, "--json", *EVERYTHING.get(tool, [])) as running:
        # Something to report: a row that is of no interrupt is none.
        if reports(tool) or "CLASSIFIER" in hooks(tool) or tool.endswith("irqs"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(0.5)
        elif not summarises(tool):
            assert running.process.stdout is not None
            assert select.select([running.process.stdout], [], [], PATIENCE)[0]
        else:
            os.sched_yield()
        output = running.stop(number)
    records = [json.loads(line) for line in output.splitlines()]
    assert records
    assert b"Traceback" not in running.messages
    wait_until_detached(before)


@pytest.mark.parametrize(
    "tool",
    # Filters of interfaces stay, until the next start of the tool: its own test.
    [tool for tool in one_of_each_kind() if "CLASSIFIER" not in hooks(tool.values[0])],
)
def test_sigkill_leaves_nothing_attached(tool: str) -> None:
    before = program_ids()
    with Tool(tool) as running:
        assert program_ids() - before
        running.process.send_signal(signal.SIGKILL)
        running.process.communicate(timeout=PATIENCE)
    wait_until_detached(before)


@host_only
@every_tool
def test_an_interrupt_during_the_start_is_quiet(tool: str) -> None:
    """At whatever moment: Ctrl-C goes to the compiler's child as well."""
    before = program_ids()
    moments: tuple[int, ...] = (30, 60, 90, 120, 160, 200, 250, 300)
    if tool not in KINDS:
        first = TOOL_NAMES.index(tool) % 4  # two of them, and others of the next tool
        moments = (moments[first], moments[first + 4])
    for milliseconds in moments:
        process = subprocess.Popen(
            [str(TOOLS / tool), *needed(tool, ["--no-cache"])],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(milliseconds / 1000)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
        try:
            _, messages = process.communicate(timeout=PATIENCE / 2)
        except subprocess.TimeoutExpired:
            # Where Python looks for its first argument, it says so and goes on as if nothing were.
            os.killpg(process.pid, signal.SIGINT)
            _, messages = process.communicate(timeout=PATIENCE)
            assert b"Failed checking if argv[0]" in messages, messages.decode()
        # Before pytools is imported, whose first module says what becomes of one, an interrupt is
        # Python's own business.
        if b"tools/pytools/" in messages.replace(b"/pytools/__init__.py", b""):
            assert b"Traceback" not in messages, messages.decode()
    wait_until_detached(before)


# Options that a tool shares with others of its kind.


def test_no_option_means_two_things() -> None:
    """An option of one name does the same in every tool that has it, but where bcc's tools differ:
    --count is a number in its profile, and takes none in its hardirqs."""
    seen: dict[str, Any] = {}
    for tool in all_tools():
        for action in capture.options(tool):
            for name in action.option_strings:
                if name.startswith("--") and name != "--count":
                    meaning = action.nargs
                    assert seen.setdefault(name, meaning) == meaning, (tool, name)
