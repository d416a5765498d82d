"""gethostlatency reports each look-up of a host name once: by any function, in any C library."""
from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

import elf_files
from pytools.domains.resolver_errors import failure
from support import PATIENCE, Tool, python_child

KNOWN, UNKNOWN = "known.test", "unknown.test"

# Looks names up, in a mount namespace where they come from a file only. found is what it
# did: [function, error, host, the longest time in seconds that it may have taken].
CHILD = r"""
import ctypes, json, os, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
folder = sys.argv[1]
assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
assert libc.mount(b"none", b"/", None, ctypes.c_ulong(16384 | 1 << 18), None) == 0  # private
for name in ("hosts", "nsswitch.conf", "resolv.conf"):
    if not os.path.exists("/etc/" + name):
        open("/etc/" + name, "w").close()
    source = os.path.join(folder, name).encode()
    assert libc.mount(source, b"/etc/" + name.encode(), None, ctypes.c_ulong(4096), None) == 0
pointer = ctypes.c_void_p
for name in ("gethostbyname", "gethostbyname2"):
    getattr(libc, name).restype = pointer
found = []

def look_up(function, host):
    result, error, room = pointer(), ctypes.c_int(), ctypes.create_string_buffer(4096)
    entry, name = ctypes.create_string_buffer(64), ctypes.c_char_p(host)
    size, behind = ctypes.c_size_t(4096), (ctypes.byref(result), ctypes.byref(error))
    before = time.monotonic()
    if function == "getaddrinfo":
        code = libc.getaddrinfo(name, None, None, ctypes.byref(result))
        if not code:
            libc.freeaddrinfo(result)
        said = {0: None, -2: "EAI_NONAME"}[code]
    elif function.endswith("_r"):
        family = [2] if "2" in function else []
        getattr(libc, function)(name, *family, entry, room, size, *behind)
        said = None if result.value else {1: "HOST_NOT_FOUND"}[error.value]
    else:
        family = [2] if "2" in function else []
        said = None if getattr(libc, function)(name, *family) else "HOST_NOT_FOUND"
    found.append([function, said, host.decode("latin-1"), time.monotonic() - before])

FUNCTIONS = ["getaddrinfo", "gethostbyname", "gethostbyname2", "gethostbyname_r",
             "gethostbyname2_r"]
KNOWN, UNKNOWN = b"%s", b"%s"
print("ready", flush=True)
sys.stdin.readline()
""" % (
    KNOWN,
    UNKNOWN,
)
TELL = r"""
print(json.dumps(found), flush=True)
sys.stdin.readline()
"""


def write_names(folder: Path) -> None:
    """What the C library is told of names: those of one file, and no others."""
    folder.mkdir(exist_ok=True)
    (folder / "hosts").write_text(f"127.0.0.1 {KNOWN} localhost\n::1 {KNOWN}\n")
    (folder / "nsswitch.conf").write_text("hosts: files\n")
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")


def traced(folder: Path, code: str, *options: str) -> tuple[int, list[Any], str]:
    """The pid of the child that runs the code, what it says, and what the tool prints of it."""
    write_names(folder)
    with python_child(CHILD + code + TELL, str(folder)) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("gethostlatency", "-p", str(child.pid), *options) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            done = json.loads(child.stdout.readline())
            output = tool.stop()
            assert b"lost" not in tool.messages
        return child.pid, done, output


EVERY_WAY = """
for number in range(50):
    for function in FUNCTIONS:
        for host in (KNOWN, UNKNOWN):
            look_up(function, host)
"""


@pytest.mark.every_kernel
def test_500_look_ups_by_every_function_with_their_results(tmp_path: Path) -> None:
    pid, done, output = traced(tmp_path, EVERY_WAY, "--json")
    events = [json.loads(line) for line in output.splitlines()]
    assert [[event["function"], event["error"], event["host"]] for event in events] == [
        look_up[:3] for look_up in done
    ]
    assert len(events) == 500 and {event["pid"] for event in events} == {pid}
    for event, (_, _, _, most) in zip(events, done):
        assert 0 < event["lat_ms"] / 1000 < most


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("function", "result", "h_errno", "name"),
    [
        ("getaddrinfo", -3, None, "EAI_AGAIN"),
        ("getaddrinfo", -99, None, "-99"),
        ("gethostbyname", 0, 2, "TRY_AGAIN"),
        ("gethostbyname", 0, None, "failed"),
        ("gethostbyname2_r", 34, -1, "ERANGE"),
        ("gethostbyname2_r", 11, 2, "TRY_AGAIN"),
        ("gethostbyname_r", 0, -1, "NETDB_INTERNAL"),
        ("gethostbyname_r", 34, None, "failed"),
    ],
)
def test_errors_in_words(function: str, result: int, h_errno: int | None, name: str) -> None:
    assert failure(function, result, h_errno) == name


# Names that are none, in four threads at once, and calls for no name.
ODD = r"""
def several(number):
    for step in range(20):
        look_up("getaddrinfo", b"thread%d-%d.test" % (number, step))
threads = [threading.Thread(target=several, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
result = pointer()
for number in range(5):
    libc.getaddrinfo(None, b"80", None, ctypes.byref(result))
look_up("getaddrinfo", b"\x1b[2Jx\ny")
look_up("gethostbyname", b"x" * 250)
"""


@pytest.mark.host_only
def test_threads_and_names_that_are_none(tmp_path: Path) -> None:
    _, done, output = traced(tmp_path, ODD)
    lines = output.splitlines()
    assert lines[0].split() == ["TIME", "PID", "COMM", "LAT(ms)", "HOST", "ERROR"]
    assert "\x1b" not in output
    hosts = [line.split()[4] for line in lines[1:]]
    assert hosts[-2:] == [r"\x1b[2Jx\x0ay", "x" * 250]
    assert sorted(hosts[:-2]) == sorted(host for _, _, host, _ in done[:-2])
    assert len(hosts) == 82


FAILED_ONLY = """
for function in FUNCTIONS:
    for host in (KNOWN, UNKNOWN, b"other.test"):
        look_up(function, host)
"""


@pytest.mark.host_only
def test_only_those_that_fail(tmp_path: Path) -> None:
    _, done, output = traced(tmp_path, FAILED_ONLY, "-x", "--csv")
    found = [line.split(",")[-3:] for line in output.splitlines()[1:]]
    assert found == [look_up[:3] for look_up in done if look_up[1]]
    assert len(found) == 10


@pytest.mark.any_types
def test_processes_that_start_later(tmp_path: Path) -> None:
    with Tool("gethostlatency", "--json", "--comm", "getent") as tool:
        pids = []
        for _ in range(20):
            with subprocess.Popen(
                ["getent", "ahosts", "127.0.0.1"], stdout=subprocess.DEVNULL
            ) as child:
                pids.append(child.pid)
        output = tool.stop()
    events = [json.loads(line) for line in output.splitlines()]
    assert [event["pid"] for event in events if event["pid"] in pids] == pids
    assert {event["host"] for event in events if event["pid"] in pids} == {"127.0.0.1"}


@pytest.mark.any_types
@elf_files.machine_code
def test_calls_inside_of_calls_and_calls_that_never_return(tmp_path: Path) -> None:
    program, rounds = tmp_path / "libc.so.6", 100
    elf_files.nesting_program(program, rounds)
    with subprocess.Popen([str(program)], stdin=subprocess.PIPE) as child:
        with Tool("gethostlatency", "--json", "-p", str(child.pid)) as tool:
            child.communicate(b"x")
            output = tool.stop()
    assert child.returncode == 0
    found = [(e["function"], e["host"]) for e in map(json.loads, output.splitlines())]
    assert found == rounds * [
        ("getaddrinfo", "one"),
        ("gethostbyname", "two"), ("getaddrinfo", "one"),
        ("getaddrinfo", "left"),
        ("getaddrinfo", "one"),
    ]  # fmt: skip


# C libraries of their own.


def loader_and_library() -> tuple[str, str]:
    """The path of glibc's loader that programs name, and the C library in use."""
    with open("/proc/self/maps") as lines:
        paths = {line.split()[-1] for line in lines}
    library = next(path for path in paths if re.search(r"/(libc\.so\.6|libc-\d.*\.so)$", path))
    loaders = {"aarch64": "/lib/ld-linux-aarch64.so.1"}
    return loaders.get(os.uname().machine, "/lib64/ld-linux-x86-64.so.2"), library


def make_root(folder: Path, musl: bool) -> None:
    """A root folder with a copy of a C library, and a program that looks a name up."""
    write_names(folder / "etc")
    (folder / "lib").mkdir()
    (folder / "lib64").symlink_to("lib")
    if musl:
        loader, name = f"/lib/ld-musl-{os.uname().machine}.so.1", "libc.so"
        if not os.path.exists(loader):
            pytest.skip("musl is not installed")
        shutil.copy(loader, folder / loader[1:])
    else:
        loader, library = loader_and_library()
        name = "libc.so.6"
        shutil.copy(loader, folder / loader[1:])
        shutil.copy(library, folder / "lib" / name)
        # In a library of its own before glibc 2.34.
        for path in Path(library).parent.glob("libnss_files*"):
            shutil.copy(path, folder / "lib" / re.sub(r"-[\d.]+\.so", ".so.2", path.name))
    elf_files.lookup_program(folder / "lookup", KNOWN, loader, name)


@contextlib.contextmanager
def in_root(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program, that waits for a byte before each look-up."""
    with subprocess.Popen(
        ["/lookup"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
        preexec_fn=lambda: os.chroot(folder), env={"LD_LIBRARY_PATH": "/lib"},
    ) as child:  # fmt: skip
        try:
            yield child
        finally:
            child.kill()


def look_up(child: subprocess.Popen[bytes], times: int) -> None:
    assert child.stdin and child.stdout
    for _ in range(times):
        child.stdin.write(b"x")
        assert child.stdout.read(1)


def wait_for(tool: Tool, text: bytes, times: int = 1) -> None:
    """Until the tool has said something so many times."""
    deadline = time.monotonic() + PATIENCE
    while tool.messages.count(text) < times:
        assert time.monotonic() < deadline, tool.messages.decode()
        assert tool.process.stderr is not None
        if select.select([tool.process.stderr], [], [], 1)[0]:
            tool.messages += os.read(tool.process.stderr.fileno(), 65536)


@pytest.mark.any_types
@elf_files.machine_code
@pytest.mark.parametrize("later", [False, True], ids=["running", "later"])
def test_c_libraries_of_containers_also_of_those_that_start_later(
    tmp_path: Path, later: bool
) -> None:
    """Of glibc and of musl, found by way of a process that has it and has no other."""
    roots = [tmp_path / "glibc", tmp_path / "musl"]
    for root in roots:
        root.mkdir()
        make_root(root, root.name == "musl")
    with contextlib.ExitStack() as stack:
        children = [] if later else [stack.enter_context(in_root(root)) for root in roots]
        tool = stack.enter_context(Tool("gethostlatency", "--json", "--comm", "lookup"))
        for root in roots if later else []:
            children.append(stack.enter_context(in_root(root)))
        for root in roots:
            pattern = "ld-musl*" if root.name == "musl" else "libc.so.6"
            library = os.path.realpath(next((root / "lib").glob(pattern)))
            wait_for(tool, b"gethostbyname2_r at " + library.encode(), 2)
        for number, child in enumerate(children):
            look_up(child, 30 + number)
        output = tool.stop()
    events = [json.loads(line) for line in output.splitlines()]
    for number, child in enumerate(children):
        found = [event for event in events if event["pid"] == child.pid]
        assert len(found) == 30 + number
        assert {(e["function"], e["error"], e["host"]) for e in found} == {
            ("getaddrinfo", None, KNOWN)
        }


@pytest.mark.host_only
@elf_files.machine_code
def test_two_containers_of_one_image_have_no_double_lines(tmp_path: Path) -> None:
    """Their file systems are overlays, in which one file has two device numbers."""
    image = tmp_path / "image"
    image.mkdir()
    make_root(image, False)
    mounts = []
    with contextlib.ExitStack() as stack:
        for number in range(2):
            for part in ("upper", "work", "root"):
                (tmp_path / f"{part}{number}").mkdir()
            folders = f"upperdir={tmp_path}/upper{number},workdir={tmp_path}/work{number}"
            options = f"lowerdir={image},{folders}"
            mount = tmp_path / f"root{number}"
            done = subprocess.run(
                ["mount", "-t", "overlay", "overlay", "-o", options, str(mount)], check=False
            )
            if done.returncode:
                pytest.skip("this kernel has no overlayfs, or not on this file system")
            stack.callback(subprocess.check_call, ["umount", str(mount)])
            mounts.append(mount)
        with contextlib.ExitStack() as running:
            children = [running.enter_context(in_root(mount)) for mount in mounts]
            tool = running.enter_context(Tool("gethostlatency", "--json", "--comm", "lookup"))
            for child in children:
                look_up(child, 20)
            output = tool.stop()
            pids = [json.loads(line)["pid"] for line in output.splitlines()]
            assert [pids.count(child.pid) for child in children] == [20, 20]
