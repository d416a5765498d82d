"""fileslower against a program that counts what it reads and writes."""
from __future__ import annotations

import json

import pytest

from file_work import folder, worker
from support import Tool, needs_functions

pytestmark = needs_functions

WORK = """
fd = os.open("file", os.O_RDWR | os.O_CREAT)
for i in range(100):
    os.pwrite(fd, b"x" * (i + 1), 0)
for i in range(100):
    os.preadv(fd, [bytearray(7), bytearray(9)], 0)
read, write = os.pipe()
os.write(write, b"12345")
os.read(read, 10)
"""
# A pipe whose other end comes late.
LATE = """
import threading, time
read, write = os.pipe()
def late():
    time.sleep(0.2)
    os.write(write, b"12345")
thread = threading.Thread(target=late)
thread.start()
os.read(read, 10)
thread.join()
"""


@pytest.mark.every_kernel
def test_each_read_and_each_write() -> None:
    with folder("fileslower") as path, worker(path) as program:
        with Tool("fileslower", "--json", "-p", str(program.pid), "0") as tool:
            program.do(WORK)
            events = [json.loads(line) for line in tool.stop().splitlines()]
    assert [(event["d"], event["bytes"], event["error"]) for event in events] == [
        *(("W", i + 1, None) for i in range(100)),
        *(("R", 16, None) for _ in range(100)),
    ]
    assert {event["filename"] for event in events} == {f"{path}/file"}
    assert {event["tid"] for event in events} == {program.pid}
    assert all(event["lat_ms"] > 0 for event in events)


def test_a_read_that_waits_for_its_pipe() -> None:
    """It takes as long as the other end sleeps, which is longer than the limit."""
    with folder("fileslower") as path, worker(path) as program:
        for arguments in ("150", "-a 150"):
            with Tool("fileslower", "-p", str(program.pid), *arguments.split()) as tool:
                program.do(LATE)
                head, *lines = tool.stop().splitlines()
            assert head.split() == "TIME(s) COMM TID D BYTES LAT(ms) FILENAME".split()
            # The read of the next line ends with the test.
            shown = [line.split() for line in lines if " 5 " in line]
            assert len(shown) == ("-a" in arguments)
    assert shown[0][3:5] == ["R", "5"] and float(shown[0][5]) > 190


def test_a_failed_write_shows_its_error() -> None:
    work = "try:\n    os.write(os.open('/dev/full', os.O_WRONLY), b'x')\nexcept OSError:\n    pass"
    with folder("fileslower") as path, worker(path) as program:
        with Tool("fileslower", "--json", "-a", "-p", str(program.pid), "0") as tool:
            program.do(work)
            events = [json.loads(line) for line in tool.stop().splitlines()]
    (event,) = [event for event in events if event["filename"] == "/dev/full"]
    assert (event["d"], event["bytes"], event["error"]) == ("W", None, "ENOSPC")
