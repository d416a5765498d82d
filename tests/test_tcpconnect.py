"""tcpconnect reports each connect once: process, addresses, outcome, time and name."""
from __future__ import annotations

import json
import subprocess
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytools.collection import catalogue
from pytools.domains import dns
from support import TOOLS, Tool, python_child, run_tool

# A network namespace of its own: what has no route there is nobody's business. made()
# tells the test what it does: [peer, its port, errno, local port, seconds at most].
CHILD = r"""
import ctypes, errno, json, os, select, socket, struct, subprocess, sys, threading, time
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
assert not libc.unshare(CLONE_NEWNS | CLONE_NEWNET), os.strerror(ctypes.get_errno())
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
told = []

def listener(family, address, backlog=4096):
    made = socket.socket(family)
    made.bind((address, 0))
    made.listen(backlog)
    return made

def connect(family, *peer, wait=True, keep=None):
    made = socket.socket(family)
    made.setblocking(wait)
    began = time.monotonic()
    error = made.connect_ex(peer)
    if error == errno.EINPROGRESS and keep is None:
        select.select([], [made], [])
        error = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    told.append([peer[0], peer[1], error, made.getsockname()[1], time.monotonic() - began])
    if keep is None:
        made.close()
    else:
        keep.append(made)
    return made

def active_opens():
    with open("/proc/self/net/snmp") as lines:
        names, values = [line.split() for line in lines if line.startswith("Tcp:")]
    return int(values[names.index("ActiveOpens")])

four, six = listener(socket.AF_INET, "127.0.0.1"), listener(socket.AF_INET6, "::1")
port4, port6 = four.getsockname()[1], six.getsockname()[1]
print("ready", flush=True)
sys.stdin.readline()
"""
TELL = r"""
print(json.dumps([told, active_opens(), os.stat("/proc/self/ns/net").st_ino]), flush=True)
sys.stdin.readline()
"""


def traced(code: str, *options: str) -> tuple[int, Any, list[Any]]:
    """The child's pid, what it told, and what the tool printed."""
    with python_child(CHILD + code + TELL) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"ready\n"
        with Tool("tcpconnect", "--json", "-p", str(child.pid), *options) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            told = json.loads(child.stdout.readline())
            events = [json.loads(line) for line in tool.stop().splitlines()]
        # What is lost may be another process's: ours is there, or the test fails.
        return child.pid, told, [event for event in events if "lost" not in event]


EVERY_OUTCOME = r"""
for _ in range(200):
    connect(socket.AF_INET, "127.0.0.1", port4)
for _ in range(50):
    connect(socket.AF_INET6, "::1", port6)
    connect(socket.AF_INET6, "::ffff:127.0.0.1", port4, wait=False)
for wait in (True, False):
    for _ in range(10):
        connect(socket.AF_INET, "127.0.0.1", 1, wait=wait)
        connect(socket.AF_INET6, "::1", 1, wait=wait)
connect(socket.AF_INET, "192.0.2.1", 80)
connect(socket.AF_INET6, "2001:db8::1", 80)
# These are none: of UDP, of a Unix socket, of one that is connected.
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("127.0.0.1", port4))
socket.socket(socket.AF_UNIX).connect_ex("/nowhere")
again = socket.create_connection(("127.0.0.1", port4))
told.append(["127.0.0.1", port4, 0, again.getsockname()[1], 1e9])
again.connect_ex(("127.0.0.1", port4))
# Nobody answers where the queue of those that nobody accepts is full.
full, kept = listener(socket.AF_INET, "127.0.0.1", 0), []
while len([row for row in told if row[2] == errno.EINPROGRESS]) < 2:
    made = connect(socket.AF_INET, *full.getsockname(), wait=False, keep=kept)
    try:
        made.getpeername()
        told[-1][2] = 0
    except OSError:
        pass
kept[-2].close()
told[-2][2] = errno.ECANCELED
# One local port only, which is taken then.
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("20000 20000")
first = connect(socket.AF_INET, "127.0.0.1", port4, keep=kept)
connect(socket.AF_INET, "127.0.0.1", port4)
"""


@pytest.mark.every_kernel
def test_every_connect_with_its_outcome() -> None:
    pid, (told, opens, namespace), events = traced(EVERY_OUTCOME)

    def rows(found: list[Any]) -> Counter[Any]:
        return Counter(tuple(row) for row in found)

    assert rows([[e["daddr"], e["dport"], e["errno"]] for e in events]) == rows(
        [row[:3] for row in told]
    )
    # The kernel's own count of those that sent a SYN.
    not_begun = [row for row in told if row[2] in (99, 101)]
    assert len(not_begun) == 3 and len(events) - len(not_begun) == opens
    connected = [event for event in events if not event["errno"]]
    assert [[e["dport"], e["lport"]] for e in connected] == [
        [port, lport] for _, port, error, lport, _ in told if not error
    ]
    for event, most in zip(connected, [row[4] for row in told if not row[2]]):
        assert 0 < event["latency_ns"] <= most * 1e9
        assert event["saddr"] == event["daddr"]
    for event in events:
        assert event["pid"] == pid and event["uid"] == 0
        assert event["netns"] == f"net:[{namespace}]"
        assert event["ip"] == (6 if event["daddr"] in ("::1", "2001:db8::1") else 4)
        assert (event["error"] is None) == (not event["errno"])


# The idiom by which libraries fetch the result of a connect that does not block: the second
# connect(2) asks only. What is asked of one that got an answer, and of one that waits, is the same.
ASKED_AGAIN = r"""
for _ in range(5):
    made = connect(socket.AF_INET, "127.0.0.1", 1, wait=False, keep=[])
    told[-1][2] = errno.ECONNREFUSED
    select.select([], [made], [])
    assert made.connect_ex(("127.0.0.1", 1)) == errno.ECONNREFUSED
    made.close()
for _ in range(5):
    made = connect(socket.AF_INET, "127.0.0.1", 1, wait=False, keep=[])
    told[-1][2] = errno.ECONNREFUSED
    select.select([], [made], [])
    made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    assert made.connect_ex(("127.0.0.1", 1)) == errno.ECONNABORTED
    # The next one is an attempt again.
    made.setblocking(True)
    began = time.monotonic()
    assert made.connect_ex(("127.0.0.1", port4)) == 0
    told.append(["127.0.0.1", port4, 0, made.getsockname()[1], time.monotonic() - began])
    assert made.connect_ex(("127.0.0.1", port4)) == errno.EISCONN
    made.close()
"""


def outcomes(rows: Any) -> Counter[Any]:
    return Counter((peer, port, error) for peer, port, error, *_ in rows)


@pytest.mark.any_types
def test_a_call_that_asks_for_the_outcome_is_no_attempt() -> None:
    _, (told, opens, _), events = traced(ASKED_AGAIN)
    assert opens == len(told) == 15
    assert outcomes([[e["daddr"], e["dport"], e["errno"]] for e in events]) == outcomes(told)
    _, (told, opens, _), rows = traced(ASKED_AGAIN, "-c")
    assert Counter({(row["dport"], row["failed"]): row["connects"] for row in rows}) == {
        (1, 10): 10, (told[-1][1], 0): 5,
    }  # fmt: skip
    assert all(row["saddr"] == "127.0.0.1" for row in rows)


# With TCP_FASTOPEN_CONNECT the SYN waits for the first data, where the peer's cookie is known:
# after the first connection.
FAST_OPEN = r"""
with open("/proc/sys/net/ipv4/tcp_fastopen", "w") as file:
    file.write("3")
four.setsockopt(socket.IPPROTO_TCP, 23, 16)  # TCP_FASTOPEN

def echo():
    while True:
        with four.accept()[0] as made:
            made.sendall(made.recv(9) or b"-")

threading.Thread(target=echo, daemon=True).start()

def fast():
    made = socket.socket()
    made.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
    return made, made.connect_ex(("127.0.0.1", port4))

def waits(made):
    # Whether its SYN is still to come.
    return made.getsockopt(socket.IPPROTO_TCP, 11, 256)[0] == 2

for number in range(4):
    made, error = fast()
    assert not error and waits(made) == (number > 0)
    if number:
        time.sleep(0.5)
    before = time.monotonic()
    made.sendall(b"hi")
    assert made.recv(9) == b"hi"
    most = time.monotonic() - before if number else 1
    told.append(["127.0.0.1", port4, 0, made.getsockname()[1], most])
    made.close()
# No SYN, no attempt.
for _ in range(3):
    made, error = fast()
    assert not error and waits(made)
    made.close()
kept = fast()[0]
assert waits(kept)
"""


def test_the_clock_of_a_fast_open_starts_at_its_syn() -> None:
    _, (told, opens, _), events = traced(FAST_OPEN, "-L")
    assert opens == len(told) == len(events) == 4
    for event, (*_, most) in zip(events, told):
        assert event["errno"] == 0 and 0 < event["latency_ns"] < most * 1e9
    _, (told, opens, _), rows = traced(FAST_OPEN, "-c")
    assert [(row["connects"], row["failed"]) for row in rows] == [(opens, 0)]


# A SYN that finds the queue of those that nobody accepts full is dropped; the kernel sends it again
# a second later. The clock starts at the first one.
DROPPED_SYN = r"""
def info(made):
    return made.getsockopt(socket.IPPROTO_TCP, 11, 256)

def sent(made):
    return struct.unpack_from("=I", info(made), 24)[0] > 0  # tcpi_unacked

def accept(made, full, times):
    while not sent(made):
        time.sleep(0.001)
    began = time.monotonic()
    time.sleep(0.2)
    times.append(time.monotonic() - began)
    full.accept()

for number in range(2):
    made = fast()[0]
    made.sendall(b"hi")
    made.recv(9)
    made.close()
full = listener(socket.AF_INET, "127.0.0.1", 0)
port4 = full.getsockname()[1]
filling = socket.create_connection(full.getsockname())
made, times = fast()[0], []
assert waits(made) and not sent(made)
time.sleep(0.5)
threading.Thread(target=accept, args=[made, full, times]).start()
before = time.monotonic()
made.sendall(b"hi")
told.append([times[0], time.monotonic() - before])
# The queue is full again: this one has no answer when the tool ends.
late = fast()[0]
late.setblocking(False)
assert waits(late)
try:
    late.send(b"hi")
except BlockingIOError:
    pass
while not info(late)[2]:  # tcpi_retransmits
    time.sleep(0.01)
"""


def test_the_clock_of_a_fast_open_starts_at_the_first_syn() -> None:
    code = FAST_OPEN.partition("for number")[0] + DROPPED_SYN
    _, (((least, most),), opens, _), events = traced(code, "-L")
    assert opens == len(events) == 5
    assert [event["errno"] for event in events] == [0] * 4 + [115]
    # When the first of two was sent is known to the millisecond.
    assert least * 1e9 < events[3]["latency_ns"] <= (most + 0.001) * 1e9
    assert events[4]["latency_ns"] > 500_000_000


FAILS_BEFORE_ITS_SYN = r"""
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("20000 20000")
kept = connect(socket.AF_INET, "127.0.0.1", port4, keep=[])
made = socket.socket()
try:
    made.sendto(b"x", 0x20000000, ("127.0.0.1", port4))  # MSG_FASTOPEN
except OSError as error:
    told.append(["127.0.0.1", port4, error.errno, 0, 1])
"""


@pytest.mark.any_types
def test_a_fast_open_that_finds_no_port_fails_for_that_reason() -> None:
    _, (told, opens, _), events = traced(FAILS_BEFORE_ITS_SYN)
    assert [row[2] for row in told] == [0, 99] and opens == 1
    assert [(event["dport"], event["errno"]) for event in events] == [
        (row[1], row[2]) for row in told
    ]


@pytest.mark.host_only
def test_filters_by_port_and_version() -> None:
    code = r"""
for _ in range(7):
    connect(socket.AF_INET, "127.0.0.1", port4)
    connect(socket.AF_INET6, "::1", port6)
    connect(socket.AF_INET6, "::1", 1)
    connect(socket.AF_INET, "192.0.2.1", 1)
    connect(socket.AF_INET6, "2001:db8::1", 2)
"""
    _, _, events = traced(code, "-P", "1,3")
    assert Counter(event["daddr"] for event in events) == {"::1": 7, "192.0.2.1": 7}
    _, _, events = traced(code, "-6")
    assert Counter(event["daddr"] for event in events) == {"::1": 14, "2001:db8::1": 7}


@pytest.mark.every_kernel
@pytest.mark.any_types
def test_counts_are_what_the_program_did() -> None:
    code = r"""
for _ in range(300):
    connect(socket.AF_INET, "127.0.0.1", port4)
for _ in range(20):
    connect(socket.AF_INET6, "::1", 1)
"""
    _, (told, opens, _), rows = traced(code, "-c")
    assert opens == sum(row["connects"] for row in rows)
    assert [
        (row["saddr"], row["daddr"], row["dport"], row["connects"], row["failed"]) for row in rows
    ] == [("127.0.0.1", "127.0.0.1", told[0][1], 300, 0), ("::1", "::1", 1, 20, 20)]


@pytest.mark.any_types
def test_counts_that_are_collected_are_those_since_the_last_time() -> None:
    code = r"""
for _ in range(30):
    connect(socket.AF_INET, "127.0.0.1", port4)
full, kept = listener(socket.AF_INET, "127.0.0.1", 0), []
for _ in range(3):  # one waits to be accepted, or two; the last has no answer
    connect(socket.AF_INET, *full.getsockname(), wait=False, keep=kept)
print("first", flush=True)
sys.stdin.readline()
kept.pop().close()
"""
    tool = catalogue.load(str(TOOLS / "tcpconnect"))
    with python_child(CHILD + code + TELL) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"ready\n"
        trace = tool.start(tool.tool.options(["-c", "-p", str(child.pid)]))
        try:
            collected = []
            for wanted in (b"first\n", b"["):
                child.stdin.write(b"\n")
                child.stdin.flush()
                assert child.stdout.readline().startswith(wanted)
                collected.append([list(row.values())[-2:] for row in trace.collect().rows])
            assert collected == [[[30, 0], [3, 0]], [[0, 1]]]
            assert trace.collect().rows == []
        finally:
            trace.close()


@pytest.mark.host_only
def test_the_schema_names_the_table_as_well() -> None:
    schema = json.loads(run_tool("tcpconnect", "--schema").stdout)
    assert schema["kind"] == "events" and "latency_ns" in [f["name"] for f in schema["fields"]]
    assert (schema["table"]["kind"], schema["table"]["option"]) == ("table", "--counts")
    assert [field["name"] for field in schema["table"]["fields"]] == [
        "saddr", "daddr", "dport", "netns", "connects", "failed",
    ]  # fmt: skip


# A name server that knows one name's addresses, with another name in between.
NAMES = r"""
def name(text):
    return b"".join(bytes([len(part)]) + part for part in text.encode().split(b".")) + b"\0"

def serve(server):
    while True:
        question, peer = server.recvfrom(512)
        end = question.index(b"\0", 12) + 5
        asked = question[12:end]
        head = lambda kind, data: struct.pack(">HHIH", kind, 1, 60, len(data)) + data
        record = lambda kind, data: name("other.example") + head(kind, data)
        records = [b"\xc0\x0c" + head(5, name("other.example"))]
        if asked[-4:-2] == b"\0\1":
            records += [record(1, bytes([127, 0, 0, last])) for last in (1, 7)]
        else:
            records += [record(28, bytes(15) + b"\1")]
        counts = struct.pack(">HHHHH", 0x8180, 1, len(records), 0, 0)
        server.sendto(question[:2] + counts + asked + b"".join(records), peer)

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
threading.Thread(target=serve, args=[server], daemon=True).start()

def question(text, kind=1):
    return struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + name(text) + struct.pack(">HH", kind, 1)

def ask(text, receive, connected=True):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        if connected:
            made.connect(("127.0.0.1", 53))
            made.send(question(text))
        else:
            made.sendto(question(text), ("127.0.0.1", 53))
        assert len(receive(made)) > 50

ways = [
    lambda made: made.recv(512),
    lambda made: made.recvmsg(512)[0],
    lambda made: os.read(made.fileno(), 512),
]
connect(socket.AF_INET, "127.0.0.1", port4)
for number, way in enumerate(ways):
    for connected in (True, False):
        ask(f"name{number}.{connected}.example", way, connected)
        connect(socket.AF_INET, "127.0.0.1", port4)
        connect(socket.AF_INET6, "::ffff:127.0.0.1", port4)
        connect(socket.AF_INET, "127.0.0.8", 1)
# The C library asks for both.
with open("/tmp/resolv.conf-%d" % os.getpid(), "w") as file:
    file.write("nameserver 127.0.0.1\n")
assert not libc.mount(b"none", b"/", None, ctypes.c_ulong((1 << 14) | (1 << 18)), None)
target = os.path.realpath("/etc/resolv.conf").encode()
assert not libc.mount(file.name.encode(), target, None, ctypes.c_ulong(4096), None)
os.unlink(file.name)
socket.getaddrinfo("library.example", port6, type=socket.SOCK_STREAM)
connect(socket.AF_INET, "127.0.0.7", 1)
connect(socket.AF_INET6, "::1", port6)
"""
# Three answers that no one understands, and two of which the tool reads the first 1,024 bytes.
NOT_UNDERSTOOD = r"""
wrong = struct.pack(">HHHHHH", 7, 0x8180, 1, 1, 0, 0) + b"\xc0\x0c" + bytes(30)
record = b"\xc0\x0c" + struct.pack(">HHIH", 16, 1, 60, 250) + bytes(250)  # TXT
last = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([127, 0, 0, 9])
cut = struct.pack(">HHHHHH", 7, 0x8180, 1, 6, 0, 0) + question("long.example")[12:] + record * 5
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.bind(("127.0.0.1", 0))
for message in [wrong] * 3 + [cut + last] * 2:
    server.sendto(message, made.getsockname())
    assert made.recv(2000) == message
connect(socket.AF_INET, "127.0.0.9", 1)
"""


@pytest.mark.every_kernel
@pytest.mark.any_types
def test_names_that_the_process_got_from_dns() -> None:
    _, _, events = traced(NAMES, "--dns")
    found = [(event["daddr"], event["query"]) for event in events]
    wanted: list[Any] = [("127.0.0.1", None)]
    for number in range(3):
        for connected in (True, False):
            name = f"name{number}.{connected}.example"
            wanted += [("127.0.0.1", name), ("::ffff:127.0.0.1", name), ("127.0.0.8", None)]
    wanted += [("127.0.0.7", "library.example"), ("::1", "library.example")]
    assert found == wanted


@pytest.mark.host_only
def test_answers_that_it_does_not_understand_are_counted() -> None:
    code = NAMES.partition("ways = [")[0] + NOT_UNDERSTOOD
    with python_child(CHILD + code + TELL) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"ready\n"
        with Tool("tcpconnect", "--json", "--dns", "-p", str(child.pid)) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline()
            event, counts = map(json.loads, tool.stop().splitlines())
    assert (event["daddr"], event["query"]) == ("127.0.0.9", None)
    assert (counts["answers_not_understood"], counts["answers_cut"]) == (3, 2)
    messages = tool.messages.decode()
    assert "tcpconnect: 3 answers not understood: names of connects may be missing\n" in messages
    assert "tcpconnect: 2 answers cut: names of connects may be missing\n" in messages


@pytest.mark.host_only
def test_an_answer_that_is_cut_or_wrong_is_no_failure() -> None:
    header = b"\0\7\x81\x80\0\1\0\2\0\0\0\0"
    question = b"\1a\7example\0\0\1\0\1"
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0"
    whole = header + question + record + b"\1" + record + b"\2"
    name = b"a.example"
    assert dns.answers(whole) == (name, [b"\x7f\0\0\1", b"\x7f\0\0\2"])
    for size in range(len(whole)):
        try:
            assert dns.answers(whole[:size])[0] == name
        except ValueError:
            assert size < len(header + question)


@pytest.mark.host_only
def test_a_name_is_not_taken_for_another() -> None:
    """Labels are any bytes: a NUL, dots and backslashes in them are not those between them."""
    header = b"\0\7\x81\x80\0\1\0\0\0\0\0\0"
    question = b"\x06a.com\0\4b\\.c\0\0\1\0\1"
    assert dns.answers(header + question) == (rb"a\.com\000.b\\\.c", [])
    start = header + (b"\x31" + b"x" * 49) * 4
    longest = dns.answers(start + b"\x35" + b"x" * 53 + b"\0\0\1\0\1")[0]
    assert len(longest) == dns.MOST_NAME_BYTES
    with pytest.raises(ValueError):
        dns.answers(start + b"\x36" + b"x" * 54 + b"\0\0\1\0\1")


@pytest.mark.host_only
@given(st.binary(max_size=600))
def test_any_bytes_are_an_answer_or_none(data: bytes) -> None:
    names = dns.Names(lambda text: None)
    for message in (data, b"\0\7\x81\x80\0\1\0\x09" + data):
        names.learn(1, message)
        try:
            assert len(dns.answers(message)[0]) <= 4 * dns.MOST_NAME_BYTES
        except ValueError:
            pass


@pytest.mark.host_only
@pytest.mark.parametrize("argument", ["0", "65536", "80,", "http"])
def test_ports_that_are_none(argument: str) -> None:
    result = run_tool("tcpconnect", "-P", argument)
    assert result.returncode == 2 and result.stderr.count("\n") == 1


@pytest.mark.host_only
@pytest.mark.parametrize("argument", ["nowhere", "4194304", "../../etc", "/proc/1/ns/net", ".."])
@pytest.mark.parametrize("tool", ["tcpconnect", "flowtop"])
def test_a_namespace_that_is_not_there(tool: str, argument: str) -> None:
    result = run_tool(tool, "--netns", argument)
    assert result.returncode == 2 and result.stderr.count("\n") == 1


@pytest.mark.host_only
def test_a_name_that_a_namespace_has_left_is_none() -> None:
    """The file is there still, and what was mounted on it is not."""
    command = "mount -t tmpfs none /run; mkdir /run/netns; >/run/netns/left; exec $0 --netns left"
    result = subprocess.run(
        ["unshare", "-m", "sh", "-ec", command, str(TOOLS / "tcpconnect")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2 and "no network namespace 'left'" in result.stderr


@pytest.mark.parametrize(
    "letter, heading, behind",
    [("-L", "LPORT", "SADDR"), ("-l", "LAT(ms)", "DPORT"), ("-d", "QUERY", "ERROR")],
)
def test_a_letter_shows_the_column_that_it_does_in_bcc(
    letter: str, heading: str, behind: str
) -> None:
    """The latency, which bcc's tool does not have, has a letter that is free there."""

    def head(*options: str) -> list[str]:
        lines = run_tool("tcpconnect", *options, "--duration", "0").stdout.splitlines()
        return lines[0].split()

    without = head()
    place = without.index(behind) + 1
    assert head(letter) == [*without[:place], heading, *without[place:]]
