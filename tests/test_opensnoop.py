"""opensnoop reports every open once, exactly, in order, whatever its name."""
from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import signal
import subprocess
import unicodedata
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator, NamedTuple

import pytest

import uring
from pytools.domains import open_files
from pytools.facts.differences import call_function

from support import (
    EMULATED, HAS_KPROBES, PATIENCE, Tool, needs_functions, python_child, run_tool,
)  # fmt: skip

X86 = os.uname().machine == "x86_64"
NOBODY = 65534
# The children of the tests that do not filter by process run as this user, who has
# no other processes: what else the machine opens must not fill the buffer.
USER = 12345
HOST_ONLY = pytest.mark.host_only
# Enough for each kind of call with each odd name a few times.
OPENS = 2_000 if EMULATED else 10_000

# What every child begins with: system calls as they are, each reported as
# [name of the call, result, errno, flags, mode, name in hex] to the test.
CHILD = r"""
import ctypes, errno, json, mmap, os, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {"openat": 257, "openat2": 437, "open": 2, "creat": 85}
if os.uname().machine != "x86_64":
    NUMBERS = {"openat": 56, "openat2": 437}
CWD = -100
calls = []

def call(kind, name, flags=0, mode=0, dirfd=CWD, resolve=0):
    pointer = name if isinstance(name, int) else ctypes.c_char_p(name)
    if kind == "openat":
        rest = [dirfd, pointer, flags, mode]
    elif kind == "openat2":
        how = (ctypes.c_uint64 * 3)(flags, mode, resolve)
        rest = [dirfd, pointer, how, 24]
    elif kind == "open":
        rest = [pointer, flags, mode]
    else:
        rest = [pointer, mode]
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
    rest = [ctypes.c_long(value) if isinstance(value, int) else value for value in rest]
    fd = libc.syscall(ctypes.c_long(NUMBERS[kind]), *rest)
    error = ctypes.get_errno() if fd < 0 else 0
    if fd >= 0:
        os.close(fd)
    said = None if isinstance(name, int) else name.hex()
    calls.append([kind, fd, error, flags, mode, said])

def become(comm):
    libc.prctl(15, comm, 0, 0, 0)

def ready():
    print("ready", flush=True)
    sys.stdin.readline()

def done():
    print(json.dumps(calls), flush=True)
    sys.stdin.readline()
"""


class Opener:
    """A child that runs a piece of Python, when it is told to."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pid = process.pid
        self.expect(b"ready\n")

    def expect(self, line: bytes) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == line

    def run(self) -> list[list[Any]]:
        """Let it make its calls; what it says it did."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        calls: list[list[Any]] = json.loads(self.process.stdout.readline())
        return calls


def opener(code: str, *arguments: str) -> Any:
    return python_child(CHILD + code, *arguments)


def events(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines()]
    assert not [line for line in lines if "lost" in line]
    return lines


def raw(path: str | None) -> bytes | None:
    return None if path is None else path.encode("utf-8", "surrogateescape")


def assert_same(got: list[Any], wanted: list[Any]) -> None:
    """Equality of long lists: pytest would take minutes to show how they differ."""
    for number, (one, other) in enumerate(zip(got, wanted)):
        assert one == other, f"number {number} of {len(got)}, which must be {len(wanted)}"
    assert len(got) == len(wanted)


def traced(code: str, *options: str, arguments: tuple[str, ...] = ()) -> tuple[Any, ...]:
    """(calls as the child reports them, events of its process)"""
    with opener(code, *arguments) as process:
        child = Opener(process)
        with Tool("opensnoop", "--json", "-p", str(child.pid), *options) as tool:
            calls = child.run()
            return calls, events(tool.stop())


MIXED = r"""
base = sys.argv[1].encode()
os.chdir(base)
directory = os.open(base, os.O_RDONLY)
odd = [b"two\nlines", b"\x1b[31mred\x1b[0m\r", b"\xff\xfe not UTF-8 \x80",
       "\u202egnp.exe".encode(),
       b"back\\slash \"quoted\", comma", "gr\u00fc\u00df \U0001f980".encode(), b" ", b"\x7f\x01"]
for name in [b"file", *odd]:
    open(name, "w").close()
open("secret", "w").close()
os.chmod("secret", 0o600)
kinds = [
    lambda i: call("openat", b"file"),
    lambda i: call("openat", b"missing %d" % i),
    lambda i: call("openat", odd[i // len(kinds) % len(odd)], os.O_RDWR | os.O_CLOEXEC),
    lambda i: call("openat", b"file", os.O_WRONLY | os.O_APPEND, dirfd=directory),
    lambda i: call("openat", base + b"/new %d" % i, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640),
    lambda i: call("openat", b"./" * 2047 + b"f"),
    lambda i: call("openat", b"./" * 2045 + b"file"),
    lambda i: call("openat", b"x" * 4095),
    lambda i: call("openat", 8),
    lambda i: call("openat", base, os.O_WRONLY),
    lambda i: call("openat", b"file", dirfd=9999),
    lambda i: call("openat", b""),
    lambda i: call("openat2", b"file", os.O_RDONLY | os.O_NOFOLLOW),
    lambda i: call("openat2", b"again %d" % i, os.O_CREAT | os.O_RDWR, 0o4711, directory),
    lambda i: call("openat2", b"file", 1 << 40),
    lambda i: call("openat", base + b"/" + odd[i // len(kinds) % len(odd)], os.O_DIRECTORY),
    lambda i: call("openat", b"x" * 255 + b"/%d" % i),
]
if "open" in NUMBERS:
    kinds += [
        lambda i: call("open", b"file", os.O_NONBLOCK),
        lambda i: call("open", b"opened %d" % i, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o755),
        lambda i: call("creat", b"created %d" % i, 0, 0o600),
    ]
total = int(sys.argv[2])
ready()
for i in range(total * 9 // 10):
    kinds[i % len(kinds)](i)
os.chmod(base, 0o755)
os.setresuid(65534, 65534, 65534)
while len(calls) < total:
    call("openat", b"secret", dirfd=directory)
done()
"""


def mixed_calls(folder: Path, total: int = OPENS) -> tuple[Any, ...]:
    return traced(MIXED, arguments=(str(folder), str(total)))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    return mixed_calls(tmp_path_factory.mktemp("mixed"))


def test_reports_each_of_many_opens_once_and_in_order(mixed: Any) -> None:
    calls, reported = mixed
    assert len(calls) == OPENS
    got = [(event["fd"], event["err"], raw(event["path"])) for event in reported]
    wanted = [
        (fd, error, None if name is None else bytes.fromhex(name))
        for _, fd, error, _, _, name in calls
    ]
    assert_same(got, wanted)


@pytest.mark.every_kernel
def test_the_mix_has_every_kind_of_call_and_error(mixed: Any) -> None:
    calls, reported = mixed
    errors = Counter(error for _, _, error, _, _, _ in calls)
    for number in (
        0, errno.ENOENT, errno.EACCES, errno.ENAMETOOLONG, errno.EFAULT, errno.EISDIR,
        errno.EBADF, errno.ENOTDIR, errno.EINVAL,
    ):  # fmt: skip
        assert errors[number] > OPENS / 100
    kinds = {kind for kind, *_ in calls}
    assert kinds == ({"open", "creat", "openat", "openat2"} if X86 else {"openat", "openat2"})
    assert max(len(name or "") // 2 for *_, name in calls) == 4095


def test_flags_and_modes_are_those_of_the_calls(mixed: Any) -> None:
    calls, reported = mixed
    got = [(event["flags"], event["mode"]) for event in reported]
    assert_same(
        got, [(flags, mode if flags & os.O_CREAT else None) for *_, flags, mode, _ in calls]
    )
    assert {event["flag_names"] for event in reported} >= {
        "O_RDONLY", "O_RDWR|O_CLOEXEC", "O_WRONLY|O_APPEND", "O_WRONLY|O_CREAT|O_EXCL",
        "O_RDONLY|0x10000000000", "O_RDONLY|O_NOFOLLOW", "O_RDONLY|O_DIRECTORY",
    }  # fmt: skip


def test_user_process_and_time_are_those_of_the_call(mixed: Any) -> None:
    calls, reported = mixed
    for event, (_, _, error, *_) in zip(reported, calls):
        assert event["uid"] == (NOBODY if error == errno.EACCES else 0)
        assert event["pid"] == event["tid"]
        assert event["comm"].startswith("python")
    times = [event["ts"] for event in reported]
    assert_same(times, sorted(times))


@HOST_ONLY
def test_csv_has_the_same_events(tmp_path: Path) -> None:
    with opener(MIXED, str(tmp_path), "300") as process:
        child = Opener(process)
        with Tool("opensnoop", "--csv", "-p", str(child.pid)) as tool:
            calls = child.run()
            rows = list(csv.DictReader(io.StringIO(tool.stop())))
    got = [(int(row["fd"]), int(row["err"])) for row in rows]
    assert_same(got, [(fd, error) for _, fd, error, *_ in calls])
    assert rows[0]["path"] == "file" and rows[0]["flag_names"] == "O_RDONLY"


@HOST_ONLY
def test_text_has_no_control_characters_and_one_line_an_event(tmp_path: Path) -> None:
    with opener(MIXED, str(tmp_path), "300") as process:
        child = Opener(process)
        with Tool("opensnoop", "-e", "-U", "-T", "-p", str(child.pid)) as tool:
            calls = child.run()
            text = tool.stop()
    head, *lines = text.split("\n")[:-1]
    assert head.split() == "TIME(s) UID PID COMM FD ERR FLAGS MODE PATH".split()
    assert len(lines) == len(calls)
    assert all(line.isprintable() for line in lines)
    assert not [c for line in lines for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs")]
    assert "two\\x0alines" in text and "\\x1b[31mred" in text and "\\xff\\xfe" in text


@HOST_ONLY
def test_strace_counts_the_same_calls() -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do cat /etc/passwd /nonexistent$i > /dev/null; done"
    with Tool("opensnoop", "--json", "-u", str(USER)) as tool:
        strace = subprocess.run(
            ["strace", "-f", "-e", "trace=open,creat,openat,openat2", "-o", "|cat", "--",
             "sh", "-c", script],
            user=USER, cwd="/",
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=PATIENCE,
            check=False,
        )  # fmt: skip
        reported = events(tool.stop())
    witnessed = Counter(
        int(line.split()[0])
        for line in strace.stdout.splitlines()
        if line.split()[1].startswith(("open", "creat"))
    )
    got = Counter(event["pid"] for event in reported if event["pid"] in witnessed)
    assert sum(witnessed.values()) > 24
    assert got == witnessed


UNTOUCHED = r"""
name = sys.argv[1].encode()
with open(name, "wb") as file:
    file.write((name + b"\0").ljust(mmap.PAGESIZE, b"\0"))
backing = os.open(name, os.O_RDWR)
memory = mmap.mmap(backing, mmap.PAGESIZE, mmap.MAP_PRIVATE)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
ready()
for i in range(200):
    assert libc.madvise(address, mmap.PAGESIZE, 4) == 0  # MADV_DONTNEED
    call("openat", address)
done()
"""


@pytest.mark.any_types
def test_a_name_in_a_page_that_is_not_in_memory_is_not_lost(tmp_path: Path) -> None:
    name = tmp_path / "name"
    calls, reported = traced(UNTOUCHED, arguments=(str(name),))
    assert_same([event["path"] for event in reported], [str(name)] * 200)
    assert all(event["fd"] >= 0 for event in reported)


# -F: one tool watches all these processes, for its programs take the verifier seconds.

WALKS = {
    "directories": r"""
base = sys.argv[1].encode()
os.makedirs(base + b"/one/two")
os.chdir(base + b"/one")
two = os.open("two", os.O_RDONLY)
ready()
call("openat", b"name")
call("openat", b"../name")
call("openat", b"name", dirfd=two)
call("openat", b"/etc/passwd", dirfd=two)
call("openat", b"/etc/passwd", dirfd=9999)
call("openat", b"name", dirfd=9999)
call("openat2", b"/in/root", 0, 0, two, 0x10)
call("openat2", b"name", 0, 0, two)
call("openat", b"two")
os.chdir("/")
call("openat", b"name")
os.chdir("/proc/self")
call("openat", b"name")
call("openat", 8)
done()
""",
    "proc": r"""
os.chdir("/proc/self")
ready()
call("openat", b"name")
call("openat", 8)
done()
""",
    "chroot": r"""
base = sys.argv[1]
os.makedirs(base + "/root/inner")
outside = os.open(base, os.O_RDONLY)
os.chroot(base + "/root")
os.chdir("/inner")
ready()
call("openat", b"name")
call("openat", b"name", dirfd=outside)
done()
""",
    "mounts": r"""
base = sys.argv[1]
os.makedirs(base + "/mount"); os.makedirs(base + "/source/deep"); os.makedirs(base + "/bound")
assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
assert libc.mount(b"none", b"/", None, ctypes.c_ulong(16384 | 1 << 18), None) == 0
assert libc.mount(b"tmpfs", base.encode() + b"/mount", b"tmpfs", ctypes.c_ulong(0), None) == 0
assert libc.mount((base + "/source").encode(), (base + "/bound").encode(), None,
                  ctypes.c_ulong(4096), None) == 0
os.makedirs(base + "/mount/inside")
ready_at = [base + "/mount/inside", base + "/mount", base + "/bound/deep", base + "/bound"]
ready()
for path in ready_at:
    os.chdir(path)
    call("openat", b"name")
done()
""",
    "deep": r"""
assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
assert libc.mount(b"none", b"/", None, ctypes.c_ulong(16384 | 1 << 18), None) == 0
assert libc.mount(b"tmpfs", b"/mnt", b"tmpfs", ctypes.c_ulong(0), None) == 0
ready()
os.chdir("/mnt")
for i in range(300):
    os.mkdir("d%d" % i)
    os.chdir("d%d" % i)
    if i in (99, 299):
        call("openat", b"name")
done()
""",
}


class Walk(NamedTuple):
    """The folder that one of these processes was given, and the paths that it opened."""

    folder: str
    paths: list[Any]


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Walk]:
    with contextlib.ExitStack() as stack:
        children = {}
        for name, code in WALKS.items():
            folder = str(tmp_path_factory.mktemp(name))
            children[name] = folder, Opener(stack.enter_context(opener(code, folder)))
        pids = ",".join(str(child.pid) for _, child in children.values())
        with Tool("opensnoop", "--json", "-F", "-p", pids) as tool:
            for _, child in children.values():
                child.run()
            reported = events(tool.stop())
    return {
        name: Walk(folder, [event["path"] for event in reported if event["pid"] == child.pid])
        for name, (folder, child) in children.items()
    }


def test_full_paths_start_at_the_working_directory_or_the_dirfd(walks: dict[str, Walk]) -> None:
    folder, paths = walks["directories"]
    assert paths[:-2] == [
        f"{folder}/one/name",
        f"{folder}/one/../name",
        f"{folder}/one/two/name",
        "/etc/passwd",
        "/etc/passwd",
        "name",
        f"{folder}/one/two/in/root",
        f"{folder}/one/two/name",
        f"{folder}/one/two",
        "/name",
    ]


def test_full_paths_in_proc_and_of_an_unreadable_name(walks: dict[str, Walk]) -> None:
    path, unreadable = walks["proc"].paths
    assert path.startswith("/proc/") and path.endswith("/name")
    assert unreadable is None


def test_full_paths_end_at_the_root_of_a_chroot(walks: dict[str, Walk]) -> None:
    folder, paths = walks["chroot"]
    assert paths == ["/inner/name", f"(unreachable){folder}/name"]


@pytest.mark.every_kernel
def test_full_paths_cross_mounts_of_a_private_namespace(walks: dict[str, Walk]) -> None:
    folder, paths = walks["mounts"]
    assert paths == [
        f"{folder}/mount/inside/name",
        f"{folder}/mount/name",
        f"{folder}/bound/deep/name",
        f"{folder}/bound/name",
    ]


def test_a_path_that_is_too_deep_is_marked(walks: dict[str, Walk]) -> None:
    deep, too_deep = walks["deep"].paths
    assert deep == "/mnt/" + "".join(f"d{i}/" for i in range(100)) + "name"
    assert too_deep.startswith(".../d") and too_deep.endswith("/d298/d299/name")
    first = int(too_deep.split("/")[1][1:])
    assert too_deep == ".../" + "".join(f"d{i}/" for i in range(first, 300)) + "name"
    assert 300 - first >= 64


# Filters: one open that passes and one that does not, always.

SIMPLE = r"""
os.setresuid(12345, 12345, 12345)
ready()
call("openat", sys.argv[1].encode(), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
done()
"""


def seen(options: list[str], *codes: tuple[str, ...]) -> set[str]:
    """Which of the names /pytools-test/NAME, opened by the children, are reported."""
    user = [] if "-u" in options else ["-u", str(USER)]
    with Tool("opensnoop", "--json", *user, *options) as tool:
        for code, *arguments in codes:
            with opener(code, *arguments) as process:
                Opener(process).run()
        paths = [event["path"] or "" for event in events(tool.stop())]
    return {path.rpartition("/")[2] for path in paths if path.startswith("/pytools-test/")}


@pytest.mark.any_types
def test_without_a_filter_every_process_is_seen() -> None:
    with opener(SIMPLE, "/pytools-test/one") as one, opener(SIMPLE, "/pytools-test/two") as two:
        children = Opener(one), Opener(two)
        with Tool("opensnoop", "--json") as tool:
            for child in children:
                child.run()
            lines = [json.loads(line) for line in tool.stop().splitlines()]
    pids = {line.get("pid") for line in lines}
    # Of a machine that opens files faster than they can be printed, some are lost.
    assert pids >= {child.pid for child in children} or "lost" in lines[-1]


@pytest.mark.any_types
def test_pid_and_tid() -> None:
    code = r"""
def other():
    print(threading.get_native_id(), flush=True)
    sys.stdin.readline()
    call("openat", b"/pytools-test/thread")
thread = threading.Thread(target=other)
thread.start()
thread.join()
call("openat", b"/pytools-test/main")
done()
"""
    for option in ("-p", "-t"):
        with opener(code) as process:
            assert process.stdout is not None and process.stdin is not None
            tid = process.stdout.readline().decode().strip()
            wanted = tid if option == "-t" else str(process.pid)
            with Tool("opensnoop", "--json", option, wanted) as tool, opener(
                SIMPLE, "/pytools-test/other"
            ) as stranger:
                Opener(stranger).run()
                process.stdin.write(b"\n")
                process.stdin.flush()
                process.stdout.readline()
                reported = [
                    event
                    for event in events(tool.stop())
                    if (event["path"] or "").startswith("/pytools-test/")  # not Python's own
                ]
        names = [event["path"].rpartition("/")[2] for event in reported]
        assert names == (["thread"] if option == "-t" else ["thread", "main"])
        assert reported[0]["tid"] == int(tid) and reported[0]["pid"] == process.pid


@HOST_ONLY
def test_uid() -> None:
    other = SIMPLE.replace("12345", "23456")
    both = (SIMPLE, "/pytools-test/one"), (other, "/pytools-test/other")
    assert seen(["-u", "12345"], *both) == {"one"}
    assert seen(["-u", "23456"], *both) == {"other"}


@HOST_ONLY
def test_failed_only(tmp_path: Path) -> None:
    calls, reported = traced(MIXED, "-x", arguments=(str(tmp_path), "400"))
    assert_same([event["err"] for event in reported], [call[2] for call in calls if call[2]])


@HOST_ONLY
@pytest.mark.parametrize(
    "name",
    ["bcd", "abc", "abcdefghijklmno", "o", "mno"],
)
def test_name_is_looked_for_anywhere_in_the_command(name: str) -> None:
    wanted = 'become(b"abcdefghijklmno")\n' + SIMPLE
    other = 'become(b"abXcdefXhijklmn")\n' + SIMPLE
    both = (wanted, "/pytools-test/wanted"), (other, "/pytools-test/other")
    assert seen(["-n", name], *both) == {"wanted"}


@HOST_ONLY
def test_name_is_bytes_not_c() -> None:
    wanted = r"""become(b'a"\\;}\xff')""" + "\n" + SIMPLE
    both = (wanted, "/pytools-test/wanted"), (SIMPLE, "/pytools-test/other")
    name = os.fsdecode(b'"\\;}\xff')
    assert seen(["-n", name], *both) == {"wanted"}


ACCESS = [
    (SIMPLE, "/pytools-test/read", str(os.O_RDONLY)),
    (SIMPLE, "/pytools-test/write", str(os.O_WRONLY | os.O_TRUNC)),
    (SIMPLE, "/pytools-test/both", str(os.O_RDWR | os.O_DSYNC)),
    (SIMPLE, "/pytools-test/directory", str(os.O_RDONLY | os.O_DIRECTORY)),
    (SIMPLE, "/pytools-test/sync", str(os.O_WRONLY | os.O_SYNC)),
]


@HOST_ONLY
@pytest.mark.parametrize(
    "flags, names",
    [
        (["O_WRONLY", "O_RDWR"], {"write", "both", "sync"}),
        (["O_RDONLY"], {"read", "directory"}),
        (["O_WRONLY"], {"write", "sync"}),
        (["O_RDWR"], {"both"}),
        (["O_SYNC"], {"sync"}),
        (["O_DSYNC"], {"both", "sync"}),
        (["O_TMPFILE"], set()),
        (["O_TRUNC", "O_DIRECTORY"], {"write", "directory"}),
    ],
)
def test_any_of_the_flags_passes(flags: list[str], names: set[str]) -> None:
    options = [word for flag in flags for word in ("-f", flag)]
    assert seen(options, *ACCESS) == names


def cgroup_mounts() -> Iterator[str]:
    """The root of the version 2 hierarchy, and of a version 1 one with a controller."""
    kinds = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split()
        controllers = {"cpu", "pids", "freezer", "memory"} & set(options.split(","))
        if kind not in kinds and (kind == "cgroup2" or (kind == "cgroup" and controllers)):
            kinds.add(kind)
            yield left.split()[4]


@pytest.mark.every_kernel
@pytest.mark.parametrize("mount", list(cgroup_mounts()))
def test_cgroup_and_those_below_it(mount: str) -> None:
    top = Path(mount) / f"pytools-opensnoop-{os.getpid()}"
    below = top / "below"
    beside = Path(mount) / f"pytools-opensnoop-{os.getpid()}-beside"
    join = "open(sys.argv.pop() + '/cgroup.procs', 'w').write(str(os.getpid()))\n" + SIMPLE
    try:
        for folder in (top, below, beside):
            folder.mkdir()
        children = [
            (join, "/pytools-test/top", str(top)),
            (join, "/pytools-test/below", str(below)),
            (join, "/pytools-test/beside", str(beside)),
            (SIMPLE, "/pytools-test/elsewhere"),
        ]
        assert seen(["--cgroup", str(top)], *children) == {"top", "below"}
        assert seen(["--cgroup", str(below)], *children) == {"below"}
    finally:
        for folder in (below, top, beside):
            folder.rmdir()


def test_there_is_a_cgroup_hierarchy_to_test_with() -> None:
    assert list(cgroup_mounts())


def test_mount_namespace() -> None:
    private = "assert libc.unshare(0x20000) == 0\n" + SIMPLE
    with opener(private, "/pytools-test/inside") as process, opener(
        SIMPLE, "/pytools-test/outside"
    ) as stranger:
        inside, outside = Opener(process), Opener(stranger)
        with Tool("opensnoop", "--json", "--mntns", str(inside.pid)) as tool:
            outside.run()
            inside.run()
            reported = events(tool.stop())
    assert [event["path"] for event in reported] == ["/pytools-test/inside"]


@HOST_ONLY
def test_several_processes_and_several_threads() -> None:
    with opener(SIMPLE, "/pytools-test/a") as a, opener(SIMPLE, "/pytools-test/b") as b, opener(
        SIMPLE, "/pytools-test/c"
    ) as c:
        children = [Opener(process) for process in (a, b, c)]
        wanted = f"{a.pid},{c.pid}"
        with Tool("opensnoop", "--json", "-p", wanted) as by_process, Tool(
            "opensnoop", "--json", "-t", wanted
        ) as by_thread:
            for child in children:
                child.run()
            found = [events(tool.stop()) for tool in (by_process, by_thread)]
    for reported in found:
        assert [event["path"] for event in reported] == ["/pytools-test/a", "/pytools-test/c"]


@HOST_ONLY
@pytest.mark.parametrize(
    "name",
    ["8letters", "shortish", "fifteen letters"],
)
def test_command_by_its_whole_name(name: str) -> None:
    become = "become(sys.argv.pop().encode())\n" + SIMPLE
    children = [
        (become, "/pytools-test/it", name),
        (become, "/pytools-test/longer", (name + "x")[-15:]),
        (become, "/pytools-test/shorter", name[:-1]),
        # What was in the name's place before is still there, behind the NUL.
        ("become(b'a' * 15)\n" + become, "/pytools-test/again", name),
    ]
    assert seen(["--comm", name], *children) == {"it", "again"}


def test_pid_namespace() -> None:
    # The child of the one that leaves is the first in the new namespace.
    inner = (
        "assert libc.unshare(0x20000000) == 0\nchild = os.fork()\n"
        "if child:\n    sys.exit(os.waitpid(child, 0)[1])\n"
    )
    with opener(inner + SIMPLE, "/pytools-test/inside") as process, opener(
        SIMPLE, "/pytools-test/outside"
    ) as stranger:
        inside, outside = Opener(process), Opener(stranger)
        folder = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        (child,) = folder.read_text().split()
        with Tool("opensnoop", "--json", "--pidns", child) as tool:
            outside.run()
            inside.run()
            reported = events(tool.stop())
    assert [event["path"] for event in reported] == ["/pytools-test/inside"]


CONTAINER_ID = "0123456789abcdef" * 4


@HOST_ONLY
def test_container() -> None:
    mounts = [
        line.split()[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if " - cgroup2 " in line
    ]
    top = Path(mounts[0]) / f"pytools-{os.getpid()}"
    container = top / f"docker-{CONTAINER_ID}.scope"
    join = "open(sys.argv.pop() + '/cgroup.procs', 'w').write(str(os.getpid()))\n" + SIMPLE
    try:
        container.mkdir(parents=True)
        with opener(join, "/pytools-test/in", str(container)) as a, opener(
            join, "/pytools-test/out", str(top)
        ) as b:
            children = [Opener(process) for process in (a, b)]
            with Tool("opensnoop", "--json", "--container", "-p", f"{a.pid},{b.pid}") as tool:
                for child in children:
                    child.run()
                # Read while the cgroups are there.
                reported = events(tool.stop())
        found = {event["path"]: event["container"] for event in reported}
        assert found == {"/pytools-test/in": CONTAINER_ID[:12], "/pytools-test/out": f"/{top.name}"}
    finally:
        for folder in (container, top):
            folder.rmdir()


# The tool itself.


@HOST_ONLY
def test_columns() -> None:
    # With duration 0 nothing but the headings is sure to be there.
    assert run_tool("opensnoop", "-d", "0").stdout.split()[:5] == "PID COMM FD ERR PATH".split()
    text = run_tool("opensnoop", "-d", "0", "-U", "-e", "-t", str(os.getpid())).stdout
    assert text.split() == "UID TID COMM FD ERR FLAGS MODE PATH".split()


@HOST_ONLY
def test_a_trailing_blank_of_a_name_stays() -> None:
    with opener(SIMPLE, "/pytools-test/blank ") as process:
        child = Opener(process)
        with Tool("opensnoop", "-p", str(child.pid)) as tool:
            child.run()
            assert tool.stop().endswith("/pytools-test/blank \n")


@HOST_ONLY
@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM],
    ids=["SIGINT", "SIGTERM"],
)
def test_what_was_opened_before_the_signal_is_printed(number: int) -> None:
    code = 'ready()\nfor i in range(5000): call("openat", b"/%d" % i)\ndone()\n'
    with opener(code) as process:
        child = Opener(process)
        with Tool("opensnoop", "--json", "-p", str(child.pid)) as tool:
            child.run()
            reported = events(tool.stop(number))
    assert_same([event["path"] for event in reported], [f"/{i}" for i in range(5000)])


@HOST_ONLY
@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["-p", "4194303"], 2, "there is no process 4194303"),
        (["-t", "4194303"], 2, "there is no"),
        (["-f", "O_NONSENSE"], 2, "there is no flag O_NONSENSE; these are known: O_RDONLY, "),
        (["-f", "O_RDONLY;"], 2, "there is no flag O_RDONLY;;"),
        (["-u", "-1"], 2, "there is no user"),
        (["-n", "x" * 16], 2, "at most 15"),
        (["--cgroup", "/nonexistent"], 1, "/nonexistent: No such file or directory"),
        (["--cgroup", "/etc"], 1, "/etc: it is not a cgroup's folder"),
        (["--mntns", "4194303"], 2, "there is no process 4194303"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: list[str], status: int, message: str) -> None:
    result = run_tool("opensnoop", *arguments)
    assert result.returncode == status
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1 and message in result.stderr


# Opens that system calls' tracepoints do not show.

# A system call of a 32-bit program, from any program: its number and four arguments, each below
# 4 GiB, as what they point to.
COMPAT = r"""
MAP_32BIT, ANONYMOUS, PRIVATE = 0x40, 0x20, 2
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, *[ctypes.c_size_t] * 5]
low = libc.mmap(None, 16384, 7, MAP_32BIT | ANONYMOUS | PRIVATE, 2**64 - 1, 0)
assert low and low < 1 << 32
# push rbx; mov eax, edi; mov ebx, esi; xchg ecx, edx; mov esi, r8d; int 0x80; pop rbx; ret
code = bytes.fromhex("53 89f8 89f3 87d1 4489c6 cd80 5b c3".replace(" ", ""))
ctypes.memmove(low, code, len(code))
compat_call = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint] * 5)(low)
COMPAT_NUMBERS = {"open": 5, "creat": 8, "openat": 295, "openat2": 437}

def compat(kind, name, flags=0, mode=0, dirfd=CWD):
    pointer = name
    if not isinstance(name, int):
        pointer = low + 1024
        ctypes.memmove(pointer, name + b"\0", len(name) + 1)
    how = low + 512
    ctypes.memmove(how, (ctypes.c_uint64 * 3)(flags, mode, 0), 24)
    rest = {
        "open": [pointer, flags, mode, 0], "creat": [pointer, mode, 0, 0],
        "openat": [dirfd, pointer, flags, mode], "openat2": [dirfd, pointer, how, 24],
    }[kind]
    fd = compat_call(COMPAT_NUMBERS[kind], *(value & (1 << 32) - 1 for value in rest))
    if fd >= 0:
        os.close(fd)
    if kind == "creat":
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
    said = None if isinstance(name, int) else name.hex()
    calls.append([kind, max(fd, -1), max(-fd, 0), flags, mode, said])
"""
# One after the other, so that they end in their order.
URING = (
    uring.RING
    + r"""
OPENAT, OPENAT2, ASYNC = 18, 28, 1 << 4
kept = []  # what an entry points to

def uring(kind, name, flags=0, mode=0, dirfd=CWD, asynchronous=False, slot=0):
    pointer = name
    if not isinstance(name, int):
        kept[:] = [ctypes.create_string_buffer(name)]
        pointer = ctypes.addressof(kept[0])
    how = (ctypes.c_uint64 * 3)(flags, mode, 0)
    two = kind == "openat2"
    submit(
        OPENAT2 if two else OPENAT, dirfd, ctypes.addressof(how) if two else 0, pointer,
        24 if two else mode, 0 if two else flags, slot, ASYNC * asynchronous,
    )
    fd = completion()
    if slot:
        fd = min(fd, -1)
    elif fd >= 0:
        os.close(fd)
    said = None if isinstance(name, int) else name.hex()
    calls.append([kind, max(fd, -1), 0 if slot and fd == -1 else max(-fd, 0), flags, mode, said])
"""
)
WAYS = {"32-bit": (COMPAT, "compat"), "io_uring": (URING, "uring")}
# Each kind of call and of error, by the function that the way has.
BY_ANY_WAY = r"""
base = sys.argv[1].encode()
os.chdir(base)
directory = os.open(base, os.O_RDONLY)
open("file", "w").close()
def some(way):
    way("openat", b"file")
    way("openat", b"missing", os.O_RDWR | os.O_CLOEXEC)
    way("openat", b"file", os.O_WRONLY | os.O_APPEND, dirfd=directory)
    way("openat", base + b"/new", os.O_CREAT | os.O_WRONLY, 0o640)
    way("openat2", b"file", os.O_NOFOLLOW)
    way("openat2", b"again", os.O_CREAT | os.O_RDWR, 0o4711, directory)
    way("openat2", b"file", 1 << 40)
    way("openat", 8)
    way("openat", b"")
    way("openat", b"x" * 4095)
    way("openat", b"./" * 2045 + b"file")
    way("openat", b"file", dirfd=9999)
"""
EXTRA = {
    "32-bit": r"""
compat("open", b"opened", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o755)
compat("open", b"file", os.O_NONBLOCK)
compat("creat", b"created", 0, 0o600)
""",
    "io_uring": r"""
uring("openat", b"file", asynchronous=True)
uring("openat", b"missing too", asynchronous=True)
""",
}


def by_way(way: str, folder: Path, *options: str) -> tuple[Any, ...]:
    """(the calls of a child that opens files in one of the ways, its events)"""
    setup, function = WAYS[way]
    code = f"{setup}\n{BY_ANY_WAY}\nready()\nfor _ in range(20): some({function})\n"
    if way == "io_uring":
        with python_child(CHILD + URING) as child:
            assert child.stdout is not None
            why = child.stdout.readline()
            if why:
                pytest.skip(f"{os.uname().release} has no io_uring: {json.loads(why)}")
    calls, reported = traced(code + EXTRA[way] + "done()\n", *options, arguments=(str(folder),))
    return calls, [event for event in reported if event["via"] == way]


@pytest.mark.every_kernel
@needs_functions
@pytest.mark.parametrize(
    "way",
    [pytest.param("32-bit", marks=pytest.mark.skipif(not X86, reason="int 0x80")), "io_uring"],
)
def test_opens_by_other_ways_are_seen_once_each(way: str, tmp_path: Path) -> None:
    calls, reported = by_way(way, tmp_path)
    got = [
        [event["fd"], event["err"], event["flags"], event["mode"], raw(event["path"])]
        for event in reported
    ]
    wanted = [
        [
            fd,
            error,
            flags,
            mode if flags & os.O_CREAT else None,
            None if name is None else bytes.fromhex(name),
        ]
        for _, fd, error, flags, mode, name in calls
    ]
    if way == "io_uring":
        # On 5.10 a worker thread tells of an open a moment after its caller has its result.
        got.sort(key=repr)
        wanted.sort(key=repr)
    assert_same(got, wanted)
    errors = {error for _, _, error, *_ in calls}
    assert errors >= {0, errno.ENOENT, errno.EFAULT, errno.ENAMETOOLONG, errno.EINVAL, errno.EBADF}


@needs_functions
@pytest.mark.parametrize("way", ["io_uring"])
def test_the_filters_are_for_all_ways(way: str, tmp_path: Path) -> None:
    calls, reported = by_way(way, tmp_path, "-x", "-F", "-f", "O_RDWR")
    failed = [call for call in calls if call[2] and call[3] & 3 == os.O_RDWR]
    assert Counter((event["err"], event["path"]) for event in reported) == Counter(
        (call[2], f"{tmp_path}/{bytes.fromhex(call[5]).decode()}") for call in failed
    )
    assert failed


KERNEL_OPENS = r"""
import resource, signal
folder = sys.argv[1]
ready()
call("openat", folder.encode() + b"/by-hand")
assert libc.acct(folder.encode() + b"/acct") == -1
if os.fork() == 0:
    os.execv("/bin/true", ["true"])
os.wait()
child = os.fork()
if child == 0:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    os.kill(os.getpid(), signal.SIGQUIT)
os.wait()
done()
"""


@needs_functions
@pytest.mark.skipif(not EMULATED, reason="core dumps of the whole machine go elsewhere meanwhile")
def test_what_the_kernel_itself_opens(tmp_path: Path) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern")
    before = pattern.read_text()
    program = os.path.realpath("/bin/true")
    try:
        pattern.write_text(f"{tmp_path}/core")
        with opener(KERNEL_OPENS, str(tmp_path)) as process:
            child = Opener(process)
            with Tool("opensnoop", "--json", "--kernel") as tool:
                child.run()
                reported = events(tool.stop())
    finally:
        pattern.write_text(before)
    by_kernel = Counter(
        (event["path"], event["err"]) for event in reported if event["via"] == "kernel"
    )
    assert by_kernel[f"{tmp_path}/acct", errno.ENOENT] == 1
    assert by_kernel["/bin/true", 0] == 1
    interpreters = [path for path, _ in by_kernel if path and "/ld-linux" in path]
    assert len(interpreters) == 1 and by_kernel[interpreters[0], 0] == 1, program
    (core,) = (path for path, _ in by_kernel if path and path.startswith(f"{tmp_path}/core"))
    assert by_kernel[core, 0] == 1
    assert all(event["fd"] == -1 for event in reported if event["via"] == "kernel")
    by_hand = [event for event in reported if event["path"] == f"{tmp_path}/by-hand"]
    assert [event["via"] for event in by_hand] == ["syscall"]


def test_tasks_that_preempt_each_other_lose_no_event() -> None:
    """More of them than CPUs, at once: where a task is preempted in a program, another on that CPU
    comes to the same place."""
    opens = 300 if EMULATED else 2000
    code = r"""
os.setresuid(12345, 12345, 12345)
ready()
def work(name):
    for i in range(int(sys.argv[1])):
        try:
            os.open("/pytools-test/%s/%d" % (name, i), os.O_RDONLY)
        except OSError:
            pass
children = []
for process in range(4):
    children.append(os.fork())
    if not children[-1]:
        threads = [threading.Thread(target=work, args=("%d-%d" % (process, n),)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os._exit(0)
for child in children:
    os.waitpid(child, 0)
done()
"""
    with opener(code, str(opens)) as process:
        child = Opener(process)
        with Tool("opensnoop", "--json", "-F", "-u", str(USER)) as tool:
            child.run()
            reported = events(tool.stop())
    paths = Counter(
        event["path"] for event in reported if (event["path"] or "").startswith("/pytools-test/")
    )
    threads = [f"/pytools-test/{process}-{n}" for process in range(4) for n in range(3)]
    assert paths == Counter(f"{thread}/{i}" for thread in threads for i in range(opens))


@HOST_ONLY
def test_the_kernel_s_own_opens_take_functions() -> None:
    result = run_tool("opensnoop", "--kernel", "-d", "0")
    if HAS_KPROBES:
        assert result.returncode == 0
    else:
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == (
            "opensnoop: the kernel's own opens are told by its functions, but this kernel does not "
            "let them be traced (CONFIG_KPROBE_EVENTS)\n"
        )


RING = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
ring = libc.syscall(425, 4, ctypes.create_string_buffer(120))
print(ring if ring >= 0 else -ctypes.get_errno(), flush=True)
sys.stdin.readline()
"""


@pytest.mark.host_only
def test_says_at_its_start_whose_opens_it_may_not_see(tmp_path: Path) -> None:
    with python_child(RING) as child:
        assert child.stdout
        ring = int(child.stdout.readline())
        result = run_tool("opensnoop", "-d", "0", "-p", f"{child.pid},{os.getpid()}")
        if ring < 0:
            pytest.skip(f"{os.uname().release} has no io_uring: {os.strerror(-ring)}")
        unseen = f"process {child.pid} has an io_uring: its opens through that are not seen"
        assert result.stderr == ("" if HAS_KPROBES else f"opensnoop: {unseen}\n")
    with_v = run_tool("opensnoop", "-d", "0", "-v").stderr
    without = ", but not those of 32-bit programs or through io_uring..."
    assert ("Tracing opens..." if HAS_KPROBES else f"Tracing opens{without}") in with_v
    program = tmp_path / "program"
    for head, is_32_bit in ((b"\x7fELF\x01", True), (b"\x7fELF\x02", False), (b"", False)):
        program.write_bytes(head)
        assert open_files._is_32_bit(str(program)) == is_32_bit
    assert not open_files._is_32_bit("/nonexistent")


# Functions that stand in no file, as those of a just-in-time compiler: one opens what it is given,
# the other calls it. Both keep the frame pointer.
CALLERS = r"""
import ctypes, mmap, os, sys
OPENING = bytes.fromhex("55 4889e5 31f6 31d2 b802000000 0f05 5d c3")  # open(path, 0, 0)
CALLING = bytes.fromhex("55 4889e5 4889f8 4889f7 ffd0 5d c3")  # f(path)
code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
start = ctypes.addressof(ctypes.c_char.from_buffer(code))
places = {}
with open(f"/tmp/perf-{os.getpid()}.map", "w") as symbols:
    for place, (name, body) in enumerate((("opening", OPENING), ("calling\x1b[2J", CALLING))):
        code[256 * place : 256 * place + len(body)] = body
        places[name] = start + 256 * place
        symbols.write(f"{places[name]:x} {len(body):x} {name}\n")
calls = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_char_p)
print("ready", flush=True)
for path in sys.stdin.buffer:
    calls(places["calling\x1b[2J"])(places["opening"], path.rstrip())
    print("done", flush=True)
"""


@pytest.mark.skipif(not X86, reason="machine code of x86-64")
@pytest.mark.parametrize("filtered", [True, False])
def test_the_functions_that_called_open(tmp_path: Path, filtered: bool) -> None:
    """By name; and what is opened to learn the names is not shown."""
    path = tmp_path / "file"
    with python_child(CALLERS) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        more = ["-p", str(child.pid)] if filtered else ["-u", str(os.getuid())]
        with Tool("opensnoop", "--json", "-c", *more) as tool:
            with Tool("opensnoop", "-c", "-p", str(child.pid)) as other:
                for _ in range(3):
                    child.stdin.write(f"{path}\n".encode())
                    child.stdin.flush()
                    assert child.stdout.readline() == b"done\n"
                lines = other.stop().splitlines()
            naming = Path(f"/proc/{tool.process.pid}/task/{tool.process.pid}/children").read_text()
            events = [json.loads(line) for line in tool.stop().splitlines()]
        Path(f"/tmp/perf-{child.pid}.map").unlink()
    found = [event for event in events if event["path"] == str(path)]
    assert len(found) == 3 and {event["pid"] for event in found} == {child.pid}
    for event in found:
        assert event["callers"].split(";")[-2:] == ["calling\x1b[2J", "opening"]
    assert naming and int(naming) not in {event["pid"] for event in events}
    assert lines[0].split() == ["PID", "COMM", "FD", "ERR", "PATH"]
    at = next(number for number, line in enumerate(lines) if line.endswith(str(path)))
    assert lines[at + 1 : at + 3] == [f"{' ' * 8}opening", f"{' ' * 8}calling\\x1b[2J"]


@pytest.mark.host_only
def test_a_start_before_linux_7_0_does_not_read_btf() -> None:
    """It would take the time and the memory to read all types, at each start."""
    without_types = SimpleNamespace(version=(6, 18))
    assert call_function("openat", without_types) is None  # type: ignore[arg-type]
