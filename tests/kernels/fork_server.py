"""In a test machine, tools and Python programs start from a process that has Python and the library
in memory already: emulated, it takes Python half a second to get there.

`install` makes `subprocess.Popen` do so for a tool's script and for ``python3 -c``. The server is a
process of its own, with one thread, that only imports, and reads the kernel's types. For each start
it makes a child, which is the test's own child (CLONE_PARENT), is given the descriptors, working
directory, environment, session and name that it would have after exec, and then runs the script
from its first line as ``__main__``. It ends as any Python does. What exec alone can do is done by
exec: `request_of`.
"""

from __future__ import annotations

import ast
import atexit
import gc
import importlib
import inspect
import io
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["install"]

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
PYTHONS = {sys.executable, "/usr/bin/python3"}
TOOL_NAME = re.compile(rf"(?:(?<!\S)\./|{re.escape(str(TOOLS))}/)([\w-]+)")
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid_for_children", "user", "uts")
LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
# A request is one datagram; the kernel's usual limit is 208 KiB.
LONGEST = 100_000
# Above those that a program may be handed by number.
HIGH = 500

# Linux, include/uapi/linux/sched.h and prctl.h.
CLONE_PARENT, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x8000, 0x200000, 0x1000000
ARM64 = os.uname().machine == "aarch64"
SYS_CLONE = 220 if ARM64 else 56
PR_SET_NAME, PR_GET_TID_ADDRESS = 15, 40


# In the process of the tests.


def attributes(pid: int) -> dict[str, object]:
    """What a process leaves to its children, beside what a request says."""
    place = Path(f"/proc/{pid or 'self'}")
    names = ("Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Cap")
    return {
        "status": [
            line for line in (place / "status").read_text().splitlines() if line.startswith(names)
        ],
        "cgroup": (place / "cgroup").read_text(),
        "root": os.readlink(place / "root"),
        "scheduler": [os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid)],
        "group": [os.getsid(pid), os.getpgid(pid)],
        **{name: os.readlink(place / "ns" / name) for name in NAMESPACES},
    }


def of_python(environment: dict[str, str]) -> dict[str, str]:
    """What Python itself reads of an environment when it starts."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("PYTHON", "LC_", "LANG", "LD_"))
    }


def request_of(call: dict[str, Any], started_with: dict[str, str]) -> dict[str, Any] | None:
    """What the server is asked for in place of a call of ``Popen._execute_child``; None for what
    takes a real exec: another program, a shell, code to be run before, other options of Python than
    those that the server was ``started_with``."""
    words = call["args"]
    if isinstance(words, (str, bytes, os.PathLike)):
        return None
    words = [os.fspath(word) for word in words]
    plain = (
        not call["shell"]
        and call["executable"] in (None, *words[:1])
        and call["preexec_fn"] is None
        and call["close_fds"]
        and call["restore_signals"]
        and call["gid"] is call["gids"] is call["uid"] is None
        and call["umask"] < 0
    )
    if not plain or not words or not all(isinstance(word, str) for word in words):
        return None
    path = Path(words[0])
    if words[0] in PYTHONS and words[1:2] == ["-c"] and len(words) > 2:
        kind = "code"
    elif path.parent == TOOLS and path.is_file() and os.access(path, os.X_OK):
        kind = "script"
    else:
        return None
    given = call["env"]
    environment = {
        os.fsdecode(name): os.fsdecode(value)
        for name, value in (os.environ if given is None else given).items()
    }
    folder = os.fspath(call["cwd"]) if call["cwd"] is not None else os.getcwd()
    if of_python(environment) != of_python(started_with) or not os.path.isdir(folder):
        return None
    return {
        "kind": kind,
        "words": words,
        "environment": environment,
        "folder": os.fsdecode(folder),
        "session": bool(call["start_new_session"]),
        "group": call.get("process_group", -1),
        # The tests' process may have changed its own since the server started.
        "limits": {number: resource.getrlimit(number) for number in LIMITS},
        "processors": sorted(os.sched_getaffinity(0)),
    }


def tools_named(words: Any) -> set[str]:
    """The tools that a command line names, itself or in a shell's script."""
    each = [words] if isinstance(words, (str, bytes, os.PathLike)) else words
    names = {name for word in each for name in TOOL_NAME.findall(os.fsdecode(word))}
    return {name for name in names if (TOOLS / name).is_file()}


class Server:
    """The server, seen from the tests' process, whose child it is."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self.lock = threading.Lock()
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd="/",
            )

    def start(self, request: dict[str, Any], descriptors: dict[int, int]) -> int | None:
        """The id of a process that does what is asked for, and has of our ``descriptors`` each
        under the number that is its key; None if that is to be done by exec."""
        message = json.dumps({**request, "numbers": list(descriptors)}).encode("ascii")
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        if len(message) > LONGEST or blocked or attributes(0) != attributes(self.process.pid):
            return None
        with self.lock:
            try:
                socket.send_fds(self.connection, [message], list(descriptors.values()))
            except OSError:
                if self.process.poll() is not None:
                    raise
                return None  # one of the descriptors is closed
            reply = self.connection.recv(64)
        if not reply:
            raise RuntimeError(f"fork server: a start of {request['words'][0]} failed")
        return int(reply)


def install(started: Callable[[str], None] = lambda tool: None) -> Server:
    """Have `subprocess.Popen` start tools and Python programs by a server from now on. ``started``
    is called with the name of each tool, however it is started."""
    server = Server()
    by_exec = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    signature = inspect.signature(by_exec)

    def execute(self: subprocess.Popen[Any], *given: Any) -> None:
        call = signature.bind(self, *given).arguments
        request = request_of(call, server.environment)
        for tool in tools_named(call["args"]):
            started(tool)
        pid = None
        if request is not None:
            descriptors = {number: number for number in call["pass_fds"]}
            for number, name in enumerate(("p2cread", "c2pwrite", "errwrite")):
                descriptors[number] = call[name] if call[name] >= 0 else number
            pid = server.start(request, descriptors)
        if pid is None:
            by_exec(self, *given)
            return
        started_as(self, pid, call)

    subprocess.Popen._execute_child = execute  # type: ignore[attr-defined]
    return server


def started_as(child: subprocess.Popen[Any], pid: int, call: dict[str, Any]) -> None:
    """Do what remains to be done of ``Popen._execute_child`` when the process is there."""
    child.pid = pid
    child._child_created = True  # type: ignore[attr-defined]
    child._close_pipe_fds(  # type: ignore[attr-defined]
        *(call[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite")),
        *(call[name] for name in ("errread", "errwrite")),
    )


# In the server.


def imported(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it; nothing of it is run."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def import_library() -> None:
    """Import what tools import. What brings the compiler with it is run in processes of its own,
    by exec."""
    library = TOOLS / "pytools"
    scripts = [path for path in sorted(TOOLS.iterdir()) if path.is_file()]
    modules = [
        path for path in sorted(library.rglob("*.py")) if not path.name.endswith("_child.py")
    ]
    names = set().union(*(imported(path) for path in [*scripts, *modules]))
    for name in sorted(names):
        if name.partition(".")[0] not in ("bcc", "pyroute2"):
            try:
                importlib.import_module(name)
            except ImportError:
                pass  # a name in a module, or what not every Python has


def read_types() -> None:
    """Read the kernel's types, and have children find them read as long as the file is the same:
    they are as many for each tool, and a machine has one kernel."""
    from pytools.base.errors import Failure
    from pytools.facts import btf, kernel

    try:
        read = btf.Btf.read(kernel.BTF_PATH)
    except (OSError, Failure):
        return  # tools say so
    # The tables of names that a template's first question would make.
    for kind in (btf.STRUCT, btf.UNION, btf.ENUM, btf.TYPEDEF, btf.FUNC):
        read.ids("task_struct", kind)
    known = identity(kernel.BTF_PATH)
    from_file = btf.Btf.read

    def read_or_known(path: str, *given: Any) -> Any:
        same = path == kernel.BTF_PATH and identity(path) == known
        return read if same else from_file(path, *given)

    btf.Btf.read = read_or_known  # type: ignore[assignment]


def identity(path: str) -> tuple[int, int, int, int] | None:
    """What tells a file from another that is mounted over it; None if it can't be read."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Start(NamedTuple):
    """What a child is to run."""

    code: types.CodeType
    namespace: dict[str, Any]


def child_of_parent(clone: Any, address: int) -> int:
    """Like `os.fork`, but the child is our parent's, as we are."""
    import ctypes

    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | signal.SIGCHLD
    # Where the id goes, and the thread's own memory: x86-64 has them in that order.
    last = (0, address) if ARM64 else (address, 0)
    pid = int(clone(*map(ctypes.c_long, (SYS_CLONE, flags, 0, 0, *last))))
    if pid:
        python.PyOS_AfterFork_Parent()
    else:
        python.PyOS_AfterFork_Child()
    return pid


def standard_stream(number: int, name: str, like: Any) -> Any:
    """A standard stream as Python makes it when it starts; None if the descriptor is closed.

    Python/pylifecycle.c, create_stdio().
    """
    reading = not number
    try:
        raw = io.FileIO(number, "r" if reading else "w", closefd=False)
    except OSError:
        return None
    raw.name = name
    buffered = io.BufferedReader(raw) if reading else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffered,
        encoding=like.encoding,
        errors="backslashreplace" if number == 2 else like.errors,
        newline=None if reading else "\n",
        line_buffering=number == 2 or raw.isatty(),
    )


def open_standard_streams() -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = standard_stream(number, f"<{name}>", getattr(sys, f"__{name}__"))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def keep_only(numbers: dict[int, int]) -> None:
    """Have, of the descriptors below `HIGH`, these values and no others, under the numbers that are
    their keys."""
    import fcntl

    high = {
        number: fcntl.fcntl(given, fcntl.F_DUPFD_CLOEXEC, HIGH) for number, given in numbers.items()
    }
    os.closerange(0, HIGH)
    for number, given in high.items():
        os.dup2(given, number)
        os.close(given)


def become(request: dict[str, Any], received: Sequence[int], connection: socket.socket) -> None:
    """Be as if started by exec, but for the program."""
    import fcntl
    import time

    answers = fcntl.fcntl(connection, fcntl.F_DUPFD_CLOEXEC, HIGH)
    connection.detach()
    keep_only(dict(zip(request["numbers"], received)))
    for limit, (soft, hard) in request["limits"].items():
        resource.setrlimit(int(limit), (soft, hard))
    os.sched_setaffinity(0, request["processors"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    if request["session"]:
        os.setsid()
    if request["group"] >= 0:
        os.setpgid(0, request["group"])
    open_standard_streams()
    os.write(answers, b"%d" % os.getpid())
    os.close(answers)


def serve(connection: socket.socket) -> Start | None:
    """Make children until the tests' process ends (None) or, in a child, return what it is to
    run."""
    import ctypes

    library = ctypes.PyDLL(None)
    library.syscall.restype = ctypes.c_long
    # Where glibc keeps the thread's id, which its own fork() has the kernel write.
    address = ctypes.c_void_p()
    if library.prctl(PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) or not address.value:
        raise OSError("fork server: this kernel doesn't say where the thread's id is kept")
    compiled: dict[object, types.CodeType] = {}
    while True:
        message, received, _, _ = socket.recv_fds(connection, LONGEST + 1, 64)
        if not message:
            return None
        request = json.loads(message)
        words = request["words"]
        if request["kind"] == "code":
            key: object = words[2]
            name, path, arguments = "-c", "", ["-c", *words[3:]]
            source: str | bytes = words[2]
            filename = "<string>"
        else:
            status = os.stat(words[0])
            key = (words[0], status.st_mtime_ns, status.st_size)
            name, path, arguments = words[0], str(Path(words[0]).resolve().parent), words
            filename = words[0]
        if key not in compiled:
            if request["kind"] != "code":
                source = Path(words[0]).read_bytes()
            try:
                compiled[key] = compile(source, filename, "exec", dont_inherit=True)
            except SyntaxError:
                # The child says so, as Python does.
                pass
        if child_of_parent(library.syscall, address.value):
            for number in received:
                os.close(number)
            continue
        library.prctl(PR_SET_NAME, os.fsencode(os.path.basename(words[0]))[:15], 0, 0, 0)
        become(request, received, connection)
        main = types.ModuleType("__main__")
        if request["kind"] != "code":
            main.__file__ = name
        else:
            # The library is for tools. It also says what becomes of an interrupt.
            sys.excepthook = sys.__excepthook__
            for module in [name for name in sys.modules if name.partition(".")[0] == "pytools"]:
                del sys.modules[module]
        sys.modules["__main__"] = main
        sys.argv[:] = arguments
        sys.path[0] = path
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        code = compiled.get(key) or compile(source, filename, "exec", dont_inherit=True)
        return Start(code, main.__dict__)


def end(status: int) -> None:
    """End as Python does, without taking apart all that was imported for others; return if
    something is left to say, which Python's own end does."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except (OSError, ValueError):
        return
    os._exit(status)


if __name__ == "__main__":
    # Ctrl-C is not for the server; to a child that isn't ready for it yet it comes later.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.path[0] = str(TOOLS)
    import_library()
    read_types()
    # What is there by now is no garbage, of which a child need know nothing.
    gc.collect()
    gc.freeze()
    start = serve(socket.socket(fileno=int(sys.argv[1])))
    if start is not None:
        # Here, and not in a function: what it raises ends it as Python ends any program.
        try:
            exec(start.code, start.namespace)
            end(0)
        except SystemExit as stopped:
            if stopped.code is None or isinstance(stopped.code, int):
                end((stopped.code or 0) & 0xFF)
            raise
