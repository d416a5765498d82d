"""Facts about a kernel: its types, tracepoints and identity.

Rendering asks a ``Kernel``, never the machine, so that a template can be
rendered for any kernel whose BTF and tracepoint formats are at hand.
"""
from __future__ import annotations

import gc
import os
import re
import struct

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base import system
from pytools.base.errors import Failure, error_text
from pytools.base.system import sha256

if TYPE_CHECKING:
    from typing import Iterable

    from pytools.facts.btf import Btf
    from pytools.base.cache import Cache

__all__ = [
    "Kernel", "TracepointField", "in_first_pid_namespace", "online_cpus", "own_pid",
    "pid_limit", "possible_cpus", "running",
]  # fmt: skip

BTF_PATH = "/sys/kernel/btf/vmlinux"
NOTES_PATH = "/sys/kernel/notes"
TRACEFS_PATHS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
KPROBE_TYPE = "/sys/bus/event_source/devices/kprobe/type"
CPU_PATH = "/sys/devices/system/cpu"
NT_GNU_BUILD_ID = 3
# The inode number of the first pid namespace (include/linux/proc_ns.h).
PROC_PID_INIT_INO = 0xEFFFFFFC
# No pid is larger on a 64-bit kernel (PID_MAX_LIMIT, include/linux/threads.h).
PID_MAX_LIMIT = 4 * 1024 * 1024


class TracepointField(NamedTuple):
    """A field of a tracepoint's record: offset and size in bytes."""

    type: str
    name: str
    offset: int
    size: int
    signed: bool


class Kernel:
    """One kernel, running or recorded.

    ``btf_path`` names a file with its BTF; ``tracefs`` the folder that holds
    ``events/CATEGORY/NAME/format`` (found, or mounted unseen, when None).
    """

    def __init__(
        self,
        release: str,
        btf_path: str = BTF_PATH,
        tracefs: str | None = None,
        headers: str = "",
    ) -> None:
        self.release = release
        self.headers = headers or f"/lib/modules/{release}/build"
        self._btf_path = btf_path
        self._btf: Btf | None = None
        # Where the index of the types is kept from one start to the next, if anywhere.
        self.cache: Cache | None = None
        self._tracefs = tracefs
        self._functions: dict[str, str] | None = None
        # A list of functions that can be attached to, in place of the kernel's own.
        self.functions_path = ""

    @property
    def version(self) -> tuple[int, int]:
        """(major, minor): for kernels without BTF, where nothing better is to be had."""
        major, _, rest = self.release.partition(".")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        return int(major), int(digits or 0)

    @property
    def has_btf(self) -> bool:
        """Whether the kernel's types can be looked up."""
        return os.access(self._btf_path, os.R_OK)

    @property
    def btf(self) -> Btf:
        """The kernel's types; raises Failure where there are none."""
        if self._btf is None:
            # Not needed where the image is cached.
            from pytools.facts.btf import Btf

            try:
                self._btf = Btf.read(self._btf_path, self._kept_index)
            except OSError as error:
                raise Failure(
                    f"cannot read the kernel's types: {self._btf_path}: {error.strerror}"
                ) from None
        return self._btf

    def _kept_index(self) -> bytes | None:
        return self.cache.load(self._index_entry()) if self.cache else None

    def _index_entry(self) -> str:
        from pytools.base.cache import key  # not needed where the image is cached

        return key("index of the types, 1", self.identity())

    def forget_types(self) -> None:
        """Give back the memory of the types, some 10 MiB; they can be read again. If their index
        had to be made, it is kept."""
        if self._btf is None:
            return
        if self._btf.made_index and self.cache:
            self.cache.store(self._index_entry(), self._btf.made_index)
        self._btf = None
        gc.collect()  # functions inside functions refer to each other

    def has_field(self, struct_name: str, member: str) -> bool | None:
        """Whether a struct has a member; None where the kernel has no BTF to tell.

        >>> running().has_field("task_struct", "__state")
        True
        """
        return self.btf.member(struct_name, member) is not None if self.has_btf else None

    @property
    def tracefs(self) -> str:
        """The folder of tracefs; raises Failure where it can't be had."""
        if self._tracefs is None:
            self._tracefs = _find_tracefs()
        return self._tracefs

    def has_tracepoint(self, category: str, name: str) -> bool:
        """Whether a tracepoint exists; raises Failure without tracefs, or where this
        process may not look into it."""
        try:
            os.stat(f"{self.tracefs}/events/{category}/{name}")
        except PermissionError as error:
            raise _unreadable(f"{category}:{name}", error) from None
        except OSError:
            return False
        return True

    def traced_calls(self, names: Iterable[str]) -> list[str]:
        """Those of these system calls that have tracepoints, in their order. Raises Failure where
        none has."""
        found = [name for name in names if self.has_tracepoint("syscalls", f"sys_exit_{name}")]
        if not found:
            raise Failure("this kernel has no system call tracepoints (CONFIG_FTRACE_SYSCALLS)")
        return found

    def _tracepoint_file(self, category: str, name: str, file: str) -> str:
        path = f"{self.tracefs}/events/{category}/{name}/{file}"
        try:
            with open(path) as lines:
                return lines.read()
        except FileNotFoundError:
            raise Failure(f"this kernel has no tracepoint {category}:{name}") from None
        except OSError as error:
            raise _unreadable(f"{category}:{name}", error) from None

    def tracepoint_id(self, category: str, name: str) -> int:
        """The number by which perf_event_open(2) knows a tracepoint."""
        return int(self._tracepoint_file(category, name, "id"))

    def tracepoint_fields(self, category: str, name: str) -> list[TracepointField]:
        """The fields of a tracepoint's record, from its ``format`` file."""
        fields = []
        for line in self._tracepoint_file(category, name, "format").splitlines():
            parts = dict(
                part.strip().partition(":")[::2] for part in line.split(";") if ":" in part
            )
            if "field" in parts:
                text = parts["field"].strip()
                array = ""
                if text.endswith("]"):
                    text, _, array = text.partition("[")
                type_text, _, label = text.rpartition(" ")
                fields.append(
                    TracepointField(
                        (type_text + ("[" + array if array else "")).strip(),
                        label.lstrip("*"),
                        int(parts["offset"]),
                        int(parts["size"]),
                        parts.get("signed") == "1",
                    )
                )
        return fields

    def attachable(self, name: str) -> str | None:
        """The symbol by which a function can be attached to: its name, or that with a
        suffix of the compiler's (.isra.0, .constprop.0: its arguments may be other
        ones) or of the kernel's (_noprof, since Linux commit b951aaff5035, v6.10);
        None where there is none. Functions that the compiler inlined, and those that
        the kernel excludes, are not there."""
        functions = self.functions()
        for symbol in (name, name + "_noprof"):
            if symbol in functions:
                return symbol
        suffixed = re.compile(re.escape(name) + r"(\.(isra|constprop)\.\d+)+")
        return min(filter(suffixed.fullmatch, functions), default=None)

    def functions(self) -> dict[str, str]:
        """The functions that can be attached to, and the module of each (empty for the
        kernel itself)."""
        if self._functions is None:
            self._functions = self._read_functions()
        return self._functions

    def _read_functions(self) -> dict[str, str]:
        path = self.functions_path
        try:
            with open(path or f"{self.tracefs}/available_filter_functions") as lines:
                words = [line.split() for line in lines]
        except OSError as error:  # no CONFIG_DYNAMIC_FTRACE, or refused: any symbol may do
            if path:
                raise Failure(f"cannot read functions from {path}: {error.strerror}") from None
            with open("/proc/kallsyms") as lines:
                words = [line.split()[2:] for line in lines if line.split()[1] in "tT"]
        # What was discarded with the kernel's start has a name that was made up. The kernel itself
        # stands first: a module may have a function of the same name.
        return {
            word[0]: word[1].strip("[]") if len(word) > 1 else ""
            for word in reversed(words)
            if word and not word[0].startswith("__ftrace_invalid_address__")
        }

    def enumeration(self, name: str) -> dict[int, str]:
        """The names of the values of an enum that user space may use too, the first of several;
        from BTF, or else from installed headers; empty where nothing tells them.

        >>> kernel.enumeration("bpf_cmd")[5]
        'BPF_PROG_LOAD'
        """
        if self.has_btf:
            return self.btf.enumeration(name)
        # Debian has a kernel's headers in two trees; those of the C library may be older.
        for folder in (self.headers, f"{os.path.dirname(self.headers)}/source", "/usr"):
            below = "include" if folder == "/usr" else "include/uapi"
            for header in ("bpf", "perf_event"):
                try:
                    with open(f"{folder}/{below}/linux/{header}.h") as file:
                        found = _enumeration(name, file.read())
                except OSError:
                    continue
                if found:
                    return found
        return {}

    @property
    def has_kprobes(self) -> bool:
        """Whether programs can be attached to functions by perf events."""
        return os.path.exists(KPROBE_TYPE)

    def identity(self) -> str:
        """What tells this build of the kernel from every other: release, version
        and build id; without a build id, the digest of its BTF."""
        parts = [*os.uname()[2:5], _build_id(), self._btf_path]
        try:
            parts.append(str(os.stat(self._btf_path).st_size))
            if not parts[3]:
                with open(self._btf_path, "rb") as file:
                    parts.append(sha256(file.read()).hexdigest())
        except OSError:
            parts.append("no BTF")
        return "\n".join(parts)


def running() -> Kernel:
    """The kernel that this process runs on."""
    return Kernel(os.uname().release)


def _build_id() -> str:
    try:
        with open(NOTES_PATH, "rb") as file:
            notes = file.read()
    except OSError:
        return ""
    position = 0
    while position + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("=III", notes, position)
        start = position + 12 + (name_size + 3 & ~3)
        if kind == NT_GNU_BUILD_ID and notes[position + 12 : position + 15] == b"GNU":
            return notes[start : start + size].hex()
        position = start + (size + 3 & ~3)
    return ""


# See docs/privileges.md.
TRACEFS_ADVICE = (
    "run as root, or have root run 'mount -o remount,gid=GROUP,mode=750 /sys/kernel/tracing' "
    "for a group of yours"
)


def _unreadable(tracepoint: str, error: OSError) -> Failure:
    return Failure(f"cannot read tracepoint {tracepoint}: {error.strerror}: {TRACEFS_ADVICE}")


def _find_tracefs() -> str:
    for path in TRACEFS_PATHS:
        try:
            os.stat(path + "/events")
            return path
        except PermissionError:
            raise Failure(f"no permission to read {path}: {TRACEFS_ADVICE}") from None
        except OSError:
            continue
    # Mounted nowhere (containers, minimal systems). A mount that only this
    # process sees changes nothing for anybody else. Since Linux v5.2.
    try:
        return f"/proc/self/fd/{system.detached_mount('tracefs')}"
    except OSError as error:
        raise Failure(
            f"tracefs is not mounted ({error_text(error.errno or 0)}): "
            "run 'mount -t tracefs tracefs /sys/kernel/tracing' as root"
        ) from None


def _cpu_list(file: str) -> list[int]:
    with open(f"{CPU_PATH}/{file}") as lines:
        return parse_cpu_list(lines.read())


def parse_cpu_list(text: str) -> list[int]:
    """The numbers in a kernel CPU list.

    >>> parse_cpu_list("0-2,7\\n")
    [0, 1, 2, 7]
    """
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def online_cpus() -> list[int]:
    """The CPUs that run tasks now; their numbers may have holes."""
    return _cpu_list("online")


def possible_cpus() -> list[int]:
    """The CPUs that a per-CPU map has a value for, in the order of the values."""
    return _cpu_list("possible")


def in_first_pid_namespace() -> bool:
    """Whether /proc has processes by the numbers that a BPF program sees."""
    return os.stat("/proc/self/ns/pid").st_ino == PROC_PID_INIT_INO


def own_pid() -> int:
    """The pid of this process as a BPF program sees it; 0 where that is not known, in another PID
    namespace than the first."""
    return os.getpid() if in_first_pid_namespace() else 0


def pid_limit() -> int:
    """One more than the largest pid that the kernel gives, as a BPF program sees it."""
    # A program sees the pids of the first namespace. In another one, pid_max
    # may be that namespace's own (Linux commit 7863dcc72d0f, v6.14).
    if not in_first_pid_namespace():
        return PID_MAX_LIMIT
    with open("/proc/sys/kernel/pid_max") as file:
        return int(file.read())


def symbol_address(name: str) -> int:
    """The address of a symbol of the kernel or of a module; 0 where /proc/kallsyms does not tell
    it. Raises OSError."""
    with open("/proc/kallsyms", "rb") as file:
        symbols = file.read()
    wanted, place = b" " + os.fsencode(name), -1
    # Of some 200,000 lines, the few with the name: a pattern would look at each.
    while (place := symbols.find(wanted, place + 1)) >= 0:
        if symbols[place + len(wanted) : place + len(wanted) + 1].isspace():
            address, *kind = symbols[symbols.rfind(b"\n", 0, place) + 1 : place].split()
            if len(kind) == 1:
                return int(address, 16)
    return 0


def _enumeration(name: str, header: str) -> dict[int, str]:
    """The values of an enum of a header, each that of the enumerator before it and one, or
    that of one of those, or a number."""
    match = re.search(rf"^enum {name} {{(.*?)}};", header, re.M | re.S)
    text = re.sub(r"/\*.*?\*/", "", match.group(1), flags=re.S) if match else ""
    values: dict[str, int] = {}
    value = -1
    for enumerator, given in re.findall(r"(\w+)(?:\s*=\s*(\w+))?\s*(?:,|$)", text.strip()):
        value = value + 1 if not given else values[given] if given in values else int(given, 0)
        values[enumerator] = value
    found: dict[int, str] = {}
    for enumerator, value in values.items():
        found.setdefault(value, enumerator)
    return found
