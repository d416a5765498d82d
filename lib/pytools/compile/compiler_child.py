"""Runs as the compiler's child process only: C on standard input, image on
standard output, what clang says on standard error."""
from __future__ import annotations

import ctypes
import json
import os
import struct
import sys

from pytools.base.annotations import TYPE_CHECKING
from pytools.base import system
from pytools.compile import callbacks
from pytools.compile.agreed import LAYOUT, NO_BCC, setting_number
from pytools.compile.image import Image, MapSpec, ProgramSpec

if TYPE_CHECKING:
    from typing import Any

HERE = os.path.dirname(os.path.realpath(__file__))
# bcc's library. Its Python package declares it, and imports all else that bcc can do with it.
LIBRARY = "libbcc.so.0"
_MODULE, _NUMBER, _TEXT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
# What is called of it: the type of the result, and those of the arguments.
FUNCTIONS: dict[str, list[Any]] = {
    "bpf_module_create_c_from_string": [
        _MODULE, _TEXT, ctypes.c_uint, ctypes.POINTER(_TEXT), ctypes.c_int, ctypes.c_bool, _TEXT,
    ],
    "bpf_function_start": [ctypes.c_void_p, _MODULE, _TEXT],
    "bpf_function_size": [ctypes.c_size_t, _MODULE, _TEXT],
    "bpf_num_tables": [ctypes.c_size_t, _MODULE],
    "bpf_table_name": [_TEXT, _MODULE, _NUMBER],
    "bpf_table_key_desc_id": [_TEXT, _MODULE, _NUMBER],
    "bpf_table_leaf_desc_id": [_TEXT, _MODULE, _NUMBER],
    "bpf_table_key_size_id": [ctypes.c_size_t, _MODULE, _NUMBER],
    "bpf_table_leaf_size_id": [ctypes.c_size_t, _MODULE, _NUMBER],
    "bpf_table_fd_id": [ctypes.c_int, _MODULE, _NUMBER],
    "bpf_table_max_entries_id": [ctypes.c_int, _MODULE, _NUMBER],
    "bpf_table_flags_id": [ctypes.c_int, _MODULE, _NUMBER],
    "bpf_table_type_id": [ctypes.c_int, _MODULE, _NUMBER],
}  # fmt: skip
MAP_ARRAY = 2  # BPF_MAP_TYPE_ARRAY
MAP_RINGBUF = 27  # BPF_MAP_TYPE_RINGBUF
LD_IMM64 = 0x18  # BPF_LD | BPF_DW | BPF_IMM: two instructions' room
PSEUDO_MAP_FD = 1  # BPF_PSEUDO_MAP_FD, in the source register's place


def load_bcc() -> ctypes.CDLL:
    """bcc's library, which brings LLVM with it. Raises OSError; ImportError where bcc's Python
    package is missing, by which the cache knows the images of one bcc from those of another."""
    if not any(os.path.exists(os.path.join(folder, "bcc", "libbcc.py")) for folder in sys.path):
        raise ImportError("No module named 'bcc'")
    lib = ctypes.CDLL(LIBRARY)
    for name, (result, *arguments) in FUNCTIONS.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def hide_kallsyms() -> None:
    """bcc reads all of /proc/kallsyms (100,000 lines and more) to learn whether
    the kernel has bpf_probe_read_kernel, which took six sevenths of the time to
    compile. Every kernel since v5.5 has it: let this process, and nobody else,
    see a file that says so. Without the privilege, bcc reads on."""
    try:
        system.own_mount_namespace()
        system.bind_mount(os.path.join(HERE, "kallsyms"), "/proc/kallsyms")
    except OSError:
        pass


def compile_text(lib: ctypes.CDLL, text: str, flags: list[bytes]) -> int:
    array = (ctypes.c_char_p * len(flags))(*flags)
    module: int = lib.bpf_module_create_c_from_string(
        text.encode(), 0, array, len(flags), True, None
    )
    return module


def read_maps(lib: ctypes.CDLL, module: int) -> tuple[list[MapSpec], dict[int, str]]:
    """The maps of a module, and its file descriptors' names."""
    specs: dict[str, MapSpec] = {}
    names: dict[int, str] = {}
    for number in range(lib.bpf_num_tables(module)):
        name = lib.bpf_table_name(module, number)
        specs[name.decode()] = MapSpec(
            name.decode(),
            lib.bpf_table_type_id(module, number),
            lib.bpf_table_key_size_id(module, number),
            lib.bpf_table_leaf_size_id(module, number),
            lib.bpf_table_max_entries_id(module, number),
            lib.bpf_table_flags_id(module, number),
            describe(lib.bpf_table_key_desc_id(module, number)),
            describe(lib.bpf_table_leaf_desc_id(module, number)),
        )
        names[lib.bpf_table_fd_id(module, number)] = name.decode()
    maps = []
    for spec in specs.values():
        if spec.name.endswith(LAYOUT) and spec.type == MAP_ARRAY:
            continue
        if spec.type == MAP_RINGBUF:
            layout = specs[spec.name + LAYOUT]
            spec = spec._replace(key_size=0, value_size=0, key=None, value=layout.value)
        maps.append(spec)
    return maps, names


def describe(description: Any) -> Any:
    """bcc's description of a C type, parsed."""
    return json.loads(description) if description else None


def read_program(
    lib: ctypes.CDLL, module: int, hook: list[Any], names: dict[int, str], settings: list[str]
) -> ProgramSpec:
    """The instructions of a program, with the maps and settings they use by name."""
    program, kind, target, type_id = hook
    start = lib.bpf_function_start(module, program.encode())
    if not start:
        raise SystemExit(f"error: the compiler dropped the program {program}")
    code = bytearray(ctypes.string_at(start, lib.bpf_function_size(module, program.encode())))
    uses, settings_used = [], []
    number = 0
    while number < len(code) // 8:
        if code[8 * number] == LD_IMM64:
            if code[8 * number + 1] >> 4 == PSEUDO_MAP_FD:
                (fd,) = struct.unpack_from("=i", code, 8 * number + 4)
                struct.pack_into("=i", code, 8 * number + 4, 0)
                uses.append((number, names[fd]))
            else:
                low, high = struct.unpack_from("=I4xI", code, 8 * number + 4)[:2]
                setting = setting_number(high << 32 | low)
                if setting is not None:
                    settings_used.append((number, settings[setting]))
            number += 1
        number += 1
    return ProgramSpec(program, kind, target, bytes(code), uses, settings_used, type_id)


def main() -> None:
    # Whatever bcc prints belongs to the messages.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        lib = load_bcc()
    except (ImportError, OSError) as error:
        if isinstance(error, OSError) and "No such file" not in str(error):
            # It is there: the process may not have as much memory as it takes (ulimit -v).
            raise SystemExit(f"error: bcc cannot be loaded: {error}") from None
        print(error, file=sys.stderr)
        raise SystemExit(NO_BCC) from None
    hide_kallsyms()
    request = json.load(sys.stdin)
    if request["source"]:
        os.environ["BCC_KERNEL_SOURCE"] = request["source"]
    module = compile_text(lib, request["text"], [])
    if not module:
        raise SystemExit(1)
    maps, names = read_maps(lib, module)
    settings = request["settings"]
    programs = [read_program(lib, module, hook, names, settings) for hook in request["hooks"]]
    output.write(Image(maps, callbacks.link(programs)).dump())
    output.close()
    # LLVM is not taken apart: the process ends faster than its destructors.
    os._exit(0)
