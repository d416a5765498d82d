"""tcpretrans shows each segment that TCP sends again, once, and why."""
from __future__ import annotations

import os

import pytest

import wire
from wired import beside, traced

# 12 MB each way, and no socket left but those in TIME_WAIT.
TRANSFER = r"""
import threading
step()

def serve(listener):
    for _ in range(2):
        made = listener.accept()[0]
        threading.Thread(target=echo, args=(made,)).start()

def echo(made):
    with made:
        while True:
            data = made.recv(1 << 16)
            if not data:
                return
            made.sendall(data)

def ended():
    states = set()
    for name in ("tcp", "tcp6"):
        with open("/proc/thread-self/net/" + name) as lines:
            states |= {line.split()[3] for line in list(lines)[1:]}
    return states <= {"06"}

for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    with socket.create_server((address, 0), family=family) as listener:
        threading.Thread(target=serve, args=(listener,)).start()
        for _ in range(2):
            with socket.create_connection(listener.getsockname()[:2]) as made:
                sender = threading.Thread(target=made.sendall, args=(bytes(3_000_000),))
                sender.start()
                left = 3_000_000
                while left:
                    left -= len(made.recv(1 << 16))
                sender.join()
until(ended)
step(grown())
"""


@pytest.mark.every_kernel
@pytest.mark.parametrize("how", ["filter", "netem"])
def test_segments_are_as_many_as_the_kernel_counts_under_loss(how: str) -> None:
    with wire.named_namespace() as name:
        if not wire.lose(name, how):
            pytest.skip(f"{os.uname().release} has no {how} to lose packets by")
        run = traced("tcpretrans", name, TRANSFER)
    (grown,), events = run.told, run.rows
    assert sum(event["segments"] for event in events) == grown["RetransSegs"] > 0
    assert {event["pid"] for event in events} <= {run.pid, None}
    assert {event["reason"] for event in events} >= {"recovery"}
    assert {event["ip"] for event in events} == {4, 6}
    synacks = [event for event in events if event["reason"] in ("syn", "synack")]
    assert sum(event["segments"] for event in synacks) == grown["TCPSynRetrans"]
    probes = [event for event in events if event["reason"] == "probe"]
    assert len(probes) <= grown["TCPLossProbes"]


def test_counts_are_the_same_sums() -> None:
    with wire.named_namespace() as name:
        if not wire.lose(name, "filter"):
            pytest.skip(f"{os.uname().release} has no filter to lose packets by")
        run = traced("tcpretrans", name, TRANSFER, "-c")
    (grown,), rows = run.told, run.rows
    assert sum(row["segments"] for row in rows) == grown["RetransSegs"] > 0
    ends = [(row["laddr"], row["lport"], row["raddr"], row["rport"]) for row in rows]
    assert len(set(ends)) == len(ends)
    assert all(row["retransmits"] <= row["segments"] for row in rows)


# Five connects that nobody answers, and five SYNs whose answers nobody acknowledges.
UNANSWERED = r"""
made = Wire()
listener = socket.create_server((OURS, 80))
step()
connects = []
for port in range(5):
    connects.append(socket.socket())
    connects[-1].setblocking(False)
    assert connects[-1].connect_ex((PEER, 7000 + port)) == 115  # EINPROGRESS
for port in range(5):
    made.segment(2000 + port, 80, SYN)
until(lambda: grown()["TCPSynRetrans"] >= 10)
for each in connects:
    each.close()
for port, seq in made.answers(5).items():
    made.segment(port, 80, RST, 1)
step(grown())
"""


@pytest.mark.every_kernel
def test_shows_syns_and_the_answers_to_them() -> None:
    with wire.named_namespace() as name:
        run = traced("tcpretrans", name, UNANSWERED)
    (grown,), events = run.told, run.rows
    assert len(events) == grown["RetransSegs"] == grown["TCPSynRetrans"]
    syns = [event for event in events if event["reason"] == "syn"]
    answers = [event for event in events if event["reason"] == "synack"]
    assert len(syns) + len(answers) == len(events)
    assert {event["state"] for event in syns} == {"SYN_SENT"}
    assert {event["state"] for event in answers} == {"SYN_RECV"}
    assert {event["rport"] for event in syns} == set(range(7000, 7005))
    assert {event["rport"] for event in answers} == set(range(2000, 2005))
    assert {(event["laddr"], event["raddr"]) for event in events} == {(wire.OURS, wire.PEER)}
    assert {event["lport"] for event in answers} == {80}
    # It may have closed the connects before the tool looks who has them.
    assert {event["pid"] for event in events} <= {run.pid, None}
    assert run.pid in {event["pid"] for event in answers}


# Five connections whose peer acknowledges nothing more. What is sent last is sent again as a probe,
# and then by the timer. Of the others, Nagle holds data back, and the probe sends it.
PROBES = r"""
made = Wire()
listener = socket.create_server((OURS, 80))
step()
connections = []
for port in range(COUNT):
    made.segment(2000 + port, 80, SYN, options=bytes([4, 2, 1, 1]))  # SACK is permitted
    (seq,) = made.answers(1).values()
    made.segment(2000 + port, 80, ACK, 1, seq + 1)
    connections.append(listener.accept()[0])
    connections[-1].send(bytes(100))
    if port >= 5:
        connections[-1].send(bytes(50))
until(lambda: grown()["TCPLossProbes"] >= len(connections))
until(lambda: grown()["TCPTimeouts"] >= 1)
for port, each in enumerate(connections):
    made.segment(2000 + port, 80, RST, 1)
step(grown())
"""


@pytest.mark.every_kernel
def test_a_tail_loss_probe_is_told_from_a_timeout() -> None:
    with wire.named_namespace() as name:
        run = traced("tcpretrans", name, PROBES.replace("COUNT", "5"))
    (grown,), events = run.told, run.rows
    assert sum(event["segments"] for event in events) == grown["RetransSegs"]
    probes = [event for event in events if event["reason"] == "probe"]
    assert sorted(event["rport"] for event in probes) == list(range(2000, 2005))
    assert len(probes) == grown["TCPLossProbes"]
    assert {event["reason"] for event in events} == {"probe", "timeout"}
    assert {event["state"] for event in events} == {"ESTABLISHED"}
    assert {event["pid"] for event in events} == {run.pid}


def test_probes_that_send_new_data_are_shown_if_asked_for() -> None:
    code = PROBES.replace("COUNT", "8")
    with wire.named_namespace() as name:
        run = traced("tcpretrans", name, code, "-l")
    (grown,), events = run.told, run.rows
    if b"can't be traced" in run.tool.messages:
        pytest.skip(f"{os.uname().release} has no kprobes")
    probes = [event for event in events if event["reason"] in ("probe", "newdata")]
    assert len(probes) == grown["TCPLossProbes"]
    new = [event["rport"] for event in probes if event["reason"] == "newdata"]
    assert sorted(new) == list(range(2005, 2008))
    again = [event["segments"] for event in events if event["reason"] != "newdata"]
    assert sum(again) == grown["RetransSegs"]


def test_lines_show_reasons_as_letters_and_sequence_numbers() -> None:
    with wire.named_namespace() as name:
        code = PROBES.replace("COUNT", "5")
        with beside("tcpretrans", name, code, "-s", "-4", "-L", "80") as run:
            head, *lines = run.output.splitlines()
    assert head.split() == "TIME PID IP LADDR:LPORT T> RADDR:RPORT STATE SEQ".split()
    found = [line.split() for line in lines]
    assert {line[2] for line in found} == {"4"} and {line[3] for line in found} == {"192.0.2.1:80"}
    probes = [line for line in found if line[4] == "L>"]
    assert sorted(line[5] for line in probes) == [f"192.0.2.2:{port}" for port in range(2000, 2005)]
    # What is sent again then is the same segment.
    sequence = {line[5]: line[7] for line in probes}
    assert all(line[7] == sequence[line[5]] for line in found)
