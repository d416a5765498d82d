"""An image into the kernel: maps are created, programs loaded."""
from __future__ import annotations

import ctypes
import os
import re
import resource
import struct

from pytools.base.annotations import TYPE_CHECKING
from pytools.load import maps
from pytools.base import system
from pytools.base.errors import Failure, error_text
from pytools.compile.image import Image, MapSpec, ProgramSpec
from pytools.load.maps import Map

if TYPE_CHECKING:
    from typing import Mapping


__all__ = [
    "EMPTY", "Loaded", "load", "load_program", "missed", "refusal", "require_permission",
    "takes_types",
]  # fmt: skip

PROG_LOAD, OBJ_GET_INFO_BY_FD = 5, 15
MISSES_OFFSET = 208  # of recursion_misses in struct bpf_prog_info
# enum bpf_prog_type
PROGRAM_TYPES = {
    "kprobe": 2, "kretprobe": 2, "tracepoint": 5, "perf_event": 7, "raw_tracepoint": 17,
    "fentry": 26, "fexit": 26, "tp_btf": 26, "classifier": 3,
    "uprobe": 2, "uretprobe": 2, "usdt": 2, "kprobe.multi": 2, "kretprobe.multi": 2,
    "uprobe.multi": 2, "uretprobe.multi": 2, "usdt.multi": 2, "kprobe.session": 2,
}  # fmt: skip
BPF_TRACE_KPROBE_MULTI, BPF_TRACE_UPROBE_MULTI, BPF_TRACE_KPROBE_SESSION = 42, 48, 56
ATTACH_TYPES = {  # enum bpf_attach_type
    "tp_btf": 23, "fentry": 24, "fexit": 25, "kprobe.multi": BPF_TRACE_KPROBE_MULTI,
    "kretprobe.multi": BPF_TRACE_KPROBE_MULTI,
    "uprobe.multi": BPF_TRACE_UPROBE_MULTI, "uretprobe.multi": BPF_TRACE_UPROBE_MULTI,
    "usdt.multi": BPF_TRACE_UPROBE_MULTI, "kprobe.session": BPF_TRACE_KPROBE_SESSION,
}  # fmt: skip
OF_PROGRAM = "bpf:"  # bpf:ID:NAME is a function of a BPF program
# Functions that only programs under the GPL may call are in every tool.
LICENSE = b"GPL"
# What the verifier's log has around its reason: counts, and states of registers.
_NO_REASON = re.compile(
    r"processed |(cur|old) state|R\d|\d+: |from \d|;|verification time|stack depth|\s"
)
EMPTY = bytes.fromhex("b700000000000000" "9500000000000000")  # r0 = 0; exit
LOG_BYTES = 16 * 1024 * 1024 - 1  # the most that every kernel takes
LOCKDOWN_PATH = "/sys/kernel/security/lockdown"
PARANOID_PATH = "/proc/sys/kernel/perf_event_paranoid"


class TypesRefused(Failure):
    """The kernel refuses a program in a form that has types (fentry, fexit, tp_btf)."""


class Loaded:
    """The maps by name, and the file descriptor of each program. What is
    loaded is gone when the descriptors are closed, at the latest when the
    process ends, however it ends."""

    def __init__(self) -> None:
        self.maps: dict[str, Map] = {}
        self.programs: list[tuple[ProgramSpec, int]] = []


def load(
    image: Image,
    sizes: Mapping[str, int] = {},
    settings: Mapping[str, int] = {},
    pinned: Mapping[str, int] = {},
    labels: Mapping[str, str] = {},
) -> Loaded:
    """Create the maps and load the programs. ``sizes`` gives the number of
    entries (of a ring buffer: bytes) of maps that are sized when they are loaded,
    ``settings`` the numbers that the programs are told then, ``pinned`` the descriptors of maps
    that are there already, ``labels`` the names that programs get in the kernel, in place of what
    they are attached to: other programs can be attached to these."""
    raise_memory_limit()
    loaded = Loaded()
    unknown = set(sizes) - {spec.name for spec in image.maps}
    if unknown:
        raise Failure(f"the program has no map {min(unknown)}")
    for spec in image.maps:
        spec = spec._replace(max_entries=sizes.get(spec.name, spec.max_entries))
        try:
            there = pinned.get(spec.name)
            loaded.maps[spec.name] = maps.create(spec) if there is None else Map(there, spec)
        except OSError as error:
            raise refusal(f"create the BPF map {spec.name}", error) from None
    for program in image.programs:
        label = labels.get(program.name, "")
        if program.kind != "probes":  # which multi_attach.py loads, as what it is attached to
            loaded.programs.append((program, load_program(program, loaded.maps, settings, label)))
    return loaded


def require_permission() -> None:
    """Raise Failure where this process may create no map. bcc creates the maps
    while it compiles, and says less about what is missing."""
    raise_memory_limit()
    try:
        maps.create(MapSpec("permission", maps.ARRAY, 4, 8, 1, 0, None, None)).close()
    except OSError as error:
        raise refusal("create a BPF map", error) from None


def raise_memory_limit() -> None:
    """Before Linux v5.11 maps and programs count as locked memory."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    except (ValueError, OSError):
        pass  # not needed on a newer kernel; on an older one, loading says so


def load_program(
    program: ProgramSpec,
    loaded: Mapping[str, Map],
    settings: Mapping[str, int],
    label: str = "",
) -> int:
    """Load a program, with a ``label`` if it has one: its file descriptor. Raises Failure."""
    code = bytearray(program.instructions)
    for number, name in program.maps:
        struct.pack_into("=i", code, 8 * number + 4, loaded[name].fd)
    for number, name in program.settings:
        value = settings[name] & (1 << 64) - 1
        struct.pack_into("=I4xI", code, 8 * number + 4, value & (1 << 32) - 1, value >> 32)
    try:
        return _prog_load(program, bytes(code), None, label)
    except OSError as error:
        first = error
    log = ctypes.create_string_buffer(LOG_BYTES)
    try:
        return _prog_load(program, bytes(code), log, label)
    except OSError:
        text = log.value.decode("utf-8", "replace").strip()
    lines = [line for line in text.splitlines() if line and not _NO_REASON.match(line)]
    why = lines[-1] if lines else error_text(first.errno or 0)
    if program.type_id:
        raise TypesRefused(f"{program.kind} at {program.target}: {why}", text)
    if first.errno in (1, 13) and not text:  # EPERM, EACCES
        needed = "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
        raise refusal(
            "load a BPF program", first, *[needed] if program.kind == "classifier" else []
        )
    raise Failure(
        f"the kernel refused the program for {program.target or program.name}: {why}"
        + lockdown_hint(),
        text,
    )


def takes_types(type_id: int) -> bool:
    """Whether the kernel takes programs at raw tracepoints in the form that has types;
    ``type_id`` is that of one. Some refuse it that take all others."""

    def takes(kind: str, type_id: int) -> bool:
        program = ProgramSpec("", kind, "", EMPTY, [], [], type_id)
        try:
            os.close(_prog_load(program, program.instructions, None))
            return True
        except OSError:
            return False

    # One that takes neither says why when the program itself is loaded.
    return takes("tp_btf", type_id) or not takes("raw_tracepoint", 0)


def _prog_load(
    program: ProgramSpec, code: bytes, log: ctypes.Array[ctypes.c_char] | None, label: str = ""
) -> int:
    buffer = ctypes.create_string_buffer(code, len(code))
    license_text = ctypes.create_string_buffer(LICENSE)
    name = (label or program.target or program.name).rpartition(":")[2]
    attributes = struct.pack(
        "=IIQQIIQII15sx",
        PROGRAM_TYPES[program.kind],
        len(code) // 8,
        ctypes.addressof(buffer),
        ctypes.addressof(license_text),
        1 if log else 0,
        len(log) if log else 0,
        ctypes.addressof(log) if log else 0,
        0,
        0,
        re.sub(r"\W", "_", name.rpartition("__")[2]).encode()[: maps.NAME_BYTES],
    )
    types = -1
    info = b""
    if program.functions or label:
        from pytools.load import function_types  # few programs call back, or have a label

        info = function_types.records(program.functions, bool(label))
        types = function_types.load(label)
    table = ctypes.create_string_buffer(info, len(info))
    if program.kind in ATTACH_TYPES or info:
        # Up to attach_btf_id.
        attributes += struct.pack(
            "=IIIIQI16xI",
            0,
            ATTACH_TYPES.get(program.kind, 0),
            max(types, 0),
            8 if info else 0,
            ctypes.addressof(table) if info else 0,
            len(info) // 8,
            program.type_id,
        )
    opened = [types] if types >= 0 else []
    try:
        if program.target.startswith(OF_PROGRAM) and program.type_id:
            from pytools.load.programs import descriptor  # few tools need it

            opened.append(descriptor(int(program.target.split(":")[1])))
            attributes += struct.pack("=I", opened[-1])  # attach_prog_fd
        return system.bpf(PROG_LOAD, bytearray(attributes))
    finally:
        for each in opened:
            os.close(each)


def missed(program: int) -> int:
    """How often the kernel left a program out because another one was running
    on that CPU (recursion_misses in struct bpf_prog_info, Linux commit
    9ed9e9ba2337, v5.12; counted for tracepoints since dd8657894c11, v6.7)."""
    info = ctypes.create_string_buffer(MISSES_OFFSET + 8)
    attributes = struct.pack("=IIQ", program, len(info), ctypes.addressof(info))
    try:
        system.bpf(OBJ_GET_INFO_BY_FD, bytearray(attributes))
    except OSError:
        return 0
    (count,) = struct.unpack_from("=Q", info, MISSES_OFFSET)
    return int(count)


def refusal(what: str, error: OSError, needed: str = "CAP_BPF and CAP_PERFMON") -> Failure:
    """The failure of a privileged system call, with what to do about it."""
    hint = ""
    if error.errno in (1, 13):  # EPERM, EACCES
        hint = lockdown_hint() or (_perf_events_hint() if error.errno == 13 else "")
        if not hint:
            hint = (
                f": run it as root, or with {needed}"
                if os.geteuid() != 0
                else f": root lacks some of {needed} here (a container?)"
            )
    return Failure(f"cannot {what}: {error_text(error.errno or 0)}{hint}")


def _perf_events_hint() -> str:
    """Why a kernel keeps perf events from all but root: Debian's have such a level, and that of
    Debian 11 (5.10) makes no exception for CAP_PERFMON."""
    try:
        with open(PARANOID_PATH) as file:
            level = int(file.read())
    except (OSError, ValueError):
        return ""
    if level < 3 or os.geteuid() == 0:
        return ""
    return (
        f": kernel.perf_event_paranoid is {level} here: run it as root, or have root run "
        "'sysctl kernel.perf_event_paranoid=2'"
    )


def lockdown_hint() -> str:
    """Why a locked-down kernel refuses, empty where it is not locked down."""
    try:
        with open(LOCKDOWN_PATH) as file:
            if "[confidentiality]" in file.read():
                return (
                    ": the kernel is locked down (confidentiality), which forbids reading "
                    "its memory; tracing needs 'integrity' or none"
                )
    except OSError:
        pass
    return ""
