"""An image into the kernel: maps are created, programs loaded."""
from __future__ import annotations

import ctypes
import os
import resource
import struct
from typing import Mapping

from pytools import maps, system
from pytools.errors import Failure, error_text
from pytools.image import Image, ProgramSpec
from pytools.maps import Map

__all__ = ["Loaded", "load"]

PROG_LOAD = 5
# enum bpf_prog_type
PROGRAM_TYPES = {"tracepoint": 5, "perf_event": 7, "raw_tracepoint": 17}
# Functions that only programs under the GPL may call are in every tool.
LICENSE = b"GPL"
LOG_BYTES = 16 * 1024 * 1024 - 1  # the most that every kernel takes
LOCKDOWN_PATH = "/sys/kernel/security/lockdown"


class Loaded:
    """The maps by name, and the file descriptor of each program. What is
    loaded is gone when the descriptors are closed, at the latest when the
    process ends, however it ends."""

    def __init__(self) -> None:
        self.maps: dict[str, Map] = {}
        self.programs: list[tuple[ProgramSpec, int]] = []


def load(image: Image, sizes: Mapping[str, int] = {}) -> Loaded:
    """Create the maps and load the programs. ``sizes`` gives the number of
    entries (of a ring buffer: bytes) of maps that are sized when they are loaded."""
    raise_memory_limit()
    loaded = Loaded()
    unknown = set(sizes) - {spec.name for spec in image.maps}
    if unknown:
        raise Failure(f"the program has no map {min(unknown)}")
    for spec in image.maps:
        spec = spec._replace(max_entries=sizes.get(spec.name, spec.max_entries))
        try:
            loaded.maps[spec.name] = maps.create(spec)
        except OSError as error:
            raise refusal(f"create the BPF map {spec.name}", error) from None
    for program in image.programs:
        loaded.programs.append((program, _load_program(program, loaded.maps)))
    return loaded


def raise_memory_limit() -> None:
    """Before Linux v5.11 maps and programs count as locked memory."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    except (ValueError, OSError):
        pass  # not needed on a newer kernel; on an older one, loading says so


def _load_program(program: ProgramSpec, loaded: Mapping[str, Map]) -> int:
    code = bytearray(program.instructions)
    for number, name in program.maps:
        struct.pack_into("=i", code, 8 * number + 4, loaded[name].fd)
    try:
        return _prog_load(program, bytes(code), None)
    except OSError as error:
        first = error
    log = ctypes.create_string_buffer(LOG_BYTES)
    try:
        return _prog_load(program, bytes(code), log)
    except OSError:
        text = log.value.decode("utf-8", "replace").strip()
    if first.errno in (1, 13) and not text:  # EPERM, EACCES
        raise refusal("load a BPF program", first)
    lines = [line for line in text.splitlines() if line and not line.startswith("processed ")]
    why = lines[-1] if lines else error_text(first.errno or 0)
    raise Failure(
        f"the kernel refused the program for {program.target or program.name}: {why}"
        + lockdown_hint(),
        text,
    )


def _prog_load(program: ProgramSpec, code: bytes, log: ctypes.Array[ctypes.c_char] | None) -> int:
    buffer = ctypes.create_string_buffer(code, len(code))
    license_text = ctypes.create_string_buffer(LICENSE)
    name = (program.target or program.name).rpartition(":")[2]
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
        name.rpartition("__")[2].encode()[: maps.NAME_BYTES],
    )
    return system.bpf(PROG_LOAD, bytearray(attributes))


def refusal(what: str, error: OSError) -> Failure:
    """The failure of a privileged system call, with what to do about it."""
    hint = ""
    if error.errno in (1, 13):  # EPERM, EACCES
        hint = lockdown_hint()
        if not hint:
            hint = (
                ": run it as root, or with CAP_BPF and CAP_PERFMON"
                if os.geteuid() != 0
                else ": root lacks CAP_BPF or CAP_PERFMON here (a container?)"
            )
    return Failure(f"cannot {what}: {error_text(error.errno or 0)}{hint}")


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
