"""sigsnoop and killsnoop show each way to send a signal, once each."""
from __future__ import annotations

import json
import os
import platform
import signal
from typing import Any

import pytest

from pytools.domains.signals import signal_name, signal_number, signal_numbers
from support import Tool, python_child, run_tool

NUMBERS = {"x86_64": (200, 234, 129, 297, 424), "aarch64": (130, 131, 138, 240, 424)}
TKILL, TGKILL, QUEUE, TGQUEUE, PIDFD = NUMBERS.get(platform.machine(), NUMBERS["aarch64"])
PIDFD_OPEN = 434

# A sender and its child, which handles signals and counts none of them twice: between two signals
# the sender waits until the child has handled the first.
SENDER = r"""
import ctypes, errno, json, os, signal, sys, time
tkill, tgkill, queue, tgqueue, pidfd_send, pidfd_open = map(int, sys.argv[1:])
libc = ctypes.CDLL(None, use_errno=True)
handled, handles = os.pipe()
child = os.fork()
if not child:
    for number in range(1, 65):
        if number not in (9, 19, 32, 33):
            signal.signal(number, lambda number, frame: None)
    os.set_blocking(handles, False)
    signal.set_wakeup_fd(handles)
    os.write(handles, b"r")
    while True:
        signal.pause()
os.read(handled, 1)

class Siginfo(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("errno", ctypes.c_int), ("code", ctypes.c_int),
                ("rest", ctypes.c_int * 29)]

info = lambda number: ctypes.byref(Siginfo(number, 0, -1))  # SI_QUEUE

def call(*arguments):
    return 0 if libc.syscall(*arguments) == 0 else -ctypes.get_errno()

print(child, flush=True)
sys.stdin.readline()
pidfd = libc.syscall(pidfd_open, child, 0)
sent = []
for name, result in (
    ("kill", lambda n: call(*KILL, child, n)),
    ("tkill", lambda n: call(tkill, child, n)),
    ("tgkill", lambda n: call(tgkill, child, child, n)),
    ("rt_sigqueueinfo", lambda n: call(queue, child, n, info(n))),
    ("rt_tgsigqueueinfo", lambda n: call(tgqueue, child, child, n, info(n))),
    ("pidfd_send_signal", lambda n: call(pidfd_send, pidfd, n, None, 0)),
):
    for number in (10, 15, 40):
        assert result(number) == 0
        assert os.read(handled, 1) == bytes([number])
        sent.append([name, number, child, 0])
sent.append(["kill", 0, child, call(*KILL, child, 0)])
sent.append(["kill", 9, 1 << 22, call(*KILL, 1 << 22, 9)])
sent.append(["kill", 99, child, call(*KILL, child, 99)])
sent.append(["kill", 15, -(1 << 22), call(*KILL, -(1 << 22), 15)])
sent.append(["pidfd_send_signal", 10, None, call(pidfd_send, 0, 10, None, 0)])
# The kernel's own: a timer, and what it has to say of the end of a child.
signal.pthread_sigmask(signal.SIG_BLOCK, [14])
signal.setitimer(signal.ITIMER_REAL, 0.001)
signal.sigwait([14])
os.kill(child, 9)
sent.append(["kill", 9, child, 0])
os.waitpid(child, 0)
print(json.dumps(sent), flush=True)
sys.stdin.readline()
""".replace(
    "*KILL", {"x86_64": "62", "aarch64": "129"}.get(platform.machine(), "129")
)

ARGUMENTS = [str(number) for number in (TKILL, TGKILL, QUEUE, TGQUEUE, PIDFD, PIDFD_OPEN)]


def trace(tool: str, *arguments: str) -> tuple[int, int, list[Any], list[dict[str, Any]]]:
    """The sender, its child, the calls that it made, and what the tool shows of the two."""
    with python_child(SENDER, *ARGUMENTS) as sender:
        assert sender.stdin and sender.stdout
        child = int(sender.stdout.readline())
        with Tool(tool, "--json", *arguments) as running:
            sender.stdin.write(b"\n")
            sender.stdin.flush()
            sent = json.loads(sender.stdout.readline())
            events = [json.loads(line) for line in running.stop().splitlines()]
        assert not any("lost" in event for event in events)
        pids = (sender.pid, child)
        events = [e for e in events if e["pid"] in pids or e["tpid"] in pids]
        return sender.pid, child, sent, events


CAUSES = {
    "kill": "user", "tkill": "tkill", "tgkill": "tkill", "rt_sigqueueinfo": "queue",
    "rt_tgsigqueueinfo": "queue", "pidfd_send_signal": "user",
}  # fmt: skip
TO_A_THREAD = ("tkill", "tgkill", "rt_tgsigqueueinfo")


@pytest.mark.every_kernel
def test_each_way_to_send_a_signal_is_one_line() -> None:
    sender, child, sent, events = trace("sigsnoop")
    reached = [call for call in sent if call[1] and call[3] == 0]
    from_sender = [e for e in events if e["pid"] == sender and e["tpid"] == child]
    assert [(e["sig"], e["cause"], e["ttid"]) for e in from_sender] == [
        (number, CAUSES[name], child if name in TO_A_THREAD else None)
        for name, number, *_ in reached
    ]
    assert all(e["result"] == "sent" and e["tid"] == sender for e in from_sender)
    (timer,) = [e for e in events if e["sig"] == signal.SIGALRM and e["tpid"] == sender]
    assert (timer["cause"], timer["pid"], timer["comm"]) == ("kernel", None, None)
    (ended,) = [e for e in events if e["sig"] == signal.SIGCHLD and e["tpid"] == sender]
    assert (ended["pid"], ended["cause"], ended["result"]) == (child, "killed", "ignored")
    assert len(events) == len(reached) + 2


def test_killsnoop_shows_each_call_and_what_it_returned() -> None:
    sender, _, sent, events = trace("killsnoop")
    assert [[e["call"], e["sig"], e["tpid"], e["returned"]] for e in events] == sent
    assert {e["pid"] for e in events} == {sender}
    assert {e["returned"] for e in events} >= {0, -3, -22}


@pytest.mark.any_types
def test_filters_by_signal_target_and_outcome() -> None:
    _, child, sent, events = trace("sigsnoop", "-k", "-x")
    assert [[e["call"], e["sig"], e["tpid"], e["returned"]] for e in events] == [
        call for call in sent if call[3] < 0
    ]
    _, child, sent, events = trace("killsnoop", "-s", "9,USR1,0,RTMIN+6")
    assert [e["sig"] for e in events] == [call[1] for call in sent if call[1] in (0, 9, 10, 40)]
    with python_child("import os; os.kill(os.getppid(), 0); input()") as other:
        _, child, sent, events = trace("killsnoop", "-T", str(other.pid))
        assert events == []


@pytest.mark.any_types
def test_what_is_pending_or_ignored_is_said() -> None:
    code = (
        "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [10])\nme = os.getpid()\n"
        "signal.signal(15, signal.SIG_IGN)\ninput()\n"
        "[os.kill(me, 10) for _ in range(3)], os.kill(me, 15)\nprint('done', flush=True)\ninput()"
    )
    with python_child(code) as child, Tool("sigsnoop", "--json", "-p", str(child.pid)) as tool:
        assert child.stdin and child.stdout
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"done\n"
        events = [json.loads(line) for line in tool.stop().splitlines()]
    results = [(event["sig"], event["result"]) for event in events]
    assert results == [(10, "sent"), (10, "pending"), (10, "pending"), (15, "ignored")]


@pytest.mark.any_types
def test_text_has_bcc_s_columns() -> None:
    with Tool("killsnoop") as tool:
        os.kill(os.getpid(), 0)
        head, *lines = tool.stop().splitlines()
    assert head.split() == "TIME PID COMM SIG TPID RESULT CALL".split()
    me = str(os.getpid())
    found = [line.split() for line in lines if line.split()[1] == me]
    assert [line[3:] for line in found if line[4] == me] == [["0", me, "0", "kill"]]
    with Tool("sigsnoop", "-n", "-s", "USR1") as tool, python_child("input()") as child:
        os.kill(child.pid, signal.SIGUSR1)
        child.wait()
        head, *lines = tool.stop().splitlines()
    assert head.split() == "TIME PID COMM SIG TPID TCOMM RESULT CAUSE".split()
    (line,) = [line.split() for line in lines if str(child.pid) in line.split()]
    assert line[3:5] == ["SIGUSR1", str(child.pid)] and line[-2:] == ["sent", "user"]


@pytest.mark.host_only
@pytest.mark.parametrize("text", ["", "x", "65", "SIGRTMIN+99", "-1", "9,", "RTMAX+1"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    result = run_tool("sigsnoop", f"--signal={text}")
    assert result.returncode == 2 and result.stderr.count("\n") == 1


@pytest.mark.host_only
def test_a_signal_or_process_that_is_not_there_is_no_silent_zero() -> None:
    for arguments, said in (
        (["-s", "0"], "signal 0 only asks whether a process is there: -k shows it"),
        (["-T", "4194303"], "there is no process 4194303"),
    ):
        result = run_tool("sigsnoop", "--duration", "0", *arguments)
        assert (result.returncode, result.stderr) == (0, f"sigsnoop: nothing was seen: {said}\n")
        result = run_tool("killsnoop", "--duration", "0", "--uid", "nobody", *arguments)
        assert (result.returncode, said in result.stderr) == (0, False)


def test_every_signal_has_a_name_of_its_own() -> None:
    names = [signal_name(number) for number in range(1, 65)]
    assert len(set(names)) == 64
    assert [signal_number(name) for name in names] == list(range(1, 65))
    assert signal_numbers("RTMAX,rtmax-1,IOT") == [64, 63, 6]
