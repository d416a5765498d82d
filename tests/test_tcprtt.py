"""tcprtt against the sockets' own round-trip times, over a link with a known delay."""
from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

import delayed
from support import Tool, in_fork, python_child

# A server in one namespace and its client in another, of one session: each line that comes in is a
# request and its answer. The client says the smoothed time that its socket has before each (which
# only a packet can change) and after all, and how many segments it has received.
CHILD = r"""
import ctypes, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)

def enter(name):
    namespace = os.open("/run/netns/" + name, os.O_RDONLY)
    assert not libc.setns(namespace, 0x40000000), os.strerror(ctypes.get_errno())
    os.close(namespace)

near, far, address = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
enter(far)
listener = socket.create_server((address, 0), family=family)
if not os.fork():
    made = listener.accept()[0]
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while made.recv(1):
        made.send(b"a")
    os._exit(0)
enter(near)
made = socket.create_connection(listener.getsockname()[:2])
print(listener.getsockname()[1], flush=True)
sys.stdin.readline()
rtts = []
for _ in range(50):
    info = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    rtts.append(struct.unpack_from("=I", info, 68)[0])
    made.send(b"q")
    made.recv(1)
info = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
print(*rtts, *(struct.unpack_from("=I", info, place)[0] for place in (68, 140)), flush=True)
sys.stdin.readline()
"""
EXCHANGES = 50
SECONDS = 0.01


def trace(near: str, far: str, address: str, *arguments: str) -> tuple[list[Any], list[int], int]:
    """The histograms of what the client received; the times that its socket had, and the segments
    that it received."""
    with python_child(CHILD, near, far, address) as child:
        assert child.stdin and child.stdout
        port = child.stdout.readline().decode().strip()
        with Tool("tcprtt", "--json", "--netns", near, "-P", port, *arguments) as tool:
            child.stdin.write(b"go\n")
            child.stdin.flush()
            *rtts, segments = map(int, child.stdout.readline().split())
            records = [json.loads(line) for line in tool.stop().splitlines()]
    return records, rtts, segments


def buckets(records: list[Any]) -> Counter[int]:
    filled = [b for record in records for b in record["buckets"] if b["count"]]
    return Counter({b["lo"]: b["count"] for b in filled})


def bucket(usecs: int) -> int:
    """The first value of the bucket that this one is in."""
    return 1 << usecs.bit_length() - 1


@pytest.mark.every_kernel
def test_each_packet_counts_once_with_the_time_that_the_socket_has() -> None:
    with delayed.network(SECONDS) as (near, far):
        records, rtts, segments = trace(near, far, delayed.FAR)
    found = buckets(records)
    # All but the answer to the SYN. There is at least one a request.
    assert sum(found.values()) == segments - 1 >= EXCHANGES
    assert min(rtts) >= 2 * SECONDS * 1e6
    *before, last = map(bucket, rtts)
    # An acknowledgement may come apart from the answer.
    assert not Counter(before) - found
    assert set(before) <= set(found) <= {*before, last}
    assert "lost" not in records[0]


@pytest.mark.every_kernel
def test_each_time_that_was_measured_counts_once_and_is_no_shorter_than_the_link() -> None:
    with delayed.network(SECONDS) as (near, far):
        (record,), _, segments = trace(near, far, delayed.FAR, "-u", "--summary")
    # That of the SYN, and those of all requests but the last, after which nothing comes: mostly.
    assert EXCHANGES <= record["samples"] <= segments - 1
    assert min(buckets([record])) >= bucket(int(2 * SECONDS * 1e6))
    assert record["average"] >= 2 * SECONDS * 1e6


@pytest.mark.parametrize("option, key", [("-b", "laddr"), ("-B", "raddr")])
@pytest.mark.parametrize("ends", [(delayed.NEAR, delayed.FAR), (delayed.NEAR6, delayed.FAR6)])
def test_a_histogram_an_address(option: str, key: str, ends: tuple[str, str]) -> None:
    with delayed.network(SECONDS) as (near, far):
        records, _, segments = trace(near, far, ends[1], option, "-m")
    expected = dict(zip(("laddr", "raddr"), ends))[key]
    assert [record["key"] for record in records] == [{key: expected}]
    assert records[0]["samples"] == segments - 1
    assert records[0]["unit"] == "msecs"


def test_only_the_addresses_and_the_version_that_were_asked_for() -> None:
    with delayed.network(SECONDS) as (near, far):
        for arguments, some in (
            (["-a", delayed.NEAR, "-A", delayed.FAR, "-4"], True),
            (["-a", f"::ffff:{delayed.NEAR}"], True),
            (["-a", delayed.FAR], False),
            (["-A", delayed.NEAR6], False),
            (["-6"], False),
        ):
            records, _, segments = trace(near, far, delayed.FAR, *arguments)
            samples = sum(record["samples"] for record in records)
            assert samples == (segments - 1 if some else 0), arguments


@pytest.mark.host_only
@pytest.mark.parametrize("option", ["-a", "-A"])
def test_an_address_that_is_none_is_refused(option: str) -> None:
    result = in_fork("tcprtt", option, "localhost")
    assert result.returncode == 2
    assert result.stderr == "tcprtt: 'localhost' is not an address of IPv4 or IPv6\n"
