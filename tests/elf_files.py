"""ELF files made by hand: programs with USDT probes, without a compiler."""
from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Sequence

import pytest

import arm64_code

# Their numbers in a file's head.
MACHINES = {"x86_64": 62, "aarch64": 183}
MACHINE = os.uname().machine
ARM64 = MACHINE == "aarch64"
machine_code = pytest.mark.skipif(
    MACHINE not in MACHINES, reason=f"machine code of {' and '.join(MACHINES)}"
)
NOP = arm64_code.words("d503201f") if ARM64 else b"\x90"
FOREVER = arm64_code.words("14000000") if ARM64 else b"\xeb\xfe"  # a jump to itself

TEXT, DATA = 0x400000, 0x600000  # where the program's segments are
HEADERS = 64 + 2 * 56
SEMAPHORE = DATA + 0x40


def note(
    provider: str, name: str, address: int, arguments: str, semaphore: int = 0, base: int = 0
) -> bytes:
    """A note of .note.stapsdt."""
    data = struct.pack("<QQQ", address, base, semaphore)
    data += b"".join(text.encode() + b"\0" for text in (provider, name, arguments))
    data += bytes(-len(data) % 4)
    return struct.pack("<III", 8, len(data), 3) + b"stapsdt\0" + data


def elf(
    code: bytes,
    notes: bytes = b"",
    functions: Sequence[tuple[str, int, int]] = (),
    data: bytes = bytes(256),
    base: int = 0,
    machine: int = MACHINES.get(MACHINE, 62),
    exported: bool = False,
) -> bytes:
    """A program: its code at TEXT + HEADERS, its data at DATA; ``functions`` are
    (name, address, size), as others see them if they are ``exported``."""
    parts = [code.ljust(0x2000, b"\xcc")]
    data_offset = HEADERS + len(parts[0])
    data_offset += -data_offset % 4096
    parts.append(bytes(data_offset - HEADERS - len(parts[0])) + data)
    strings, symbols = b"\0", bytes(24)
    for name, address, size in functions:
        symbols += struct.pack("<IBBHQQ", len(strings), 0x12, 0, 1, address, size)
        strings += name.encode() + b"\0"
    names = b"\0.note.stapsdt\0.stapsdt.base\0.symtab\0.strtab\0.shstrtab\0"
    position = data_offset + len(data)
    headers = bytes(64)
    for name, kind, content, address, link, entry in (
        (".note.stapsdt", 7, notes, 0, 0, 0),
        (".stapsdt.base", 1, b"\0", base, 0, 0),
        (".symtab", 11 if exported else 2, symbols, 0, 4, 24),
        (".strtab", 3, strings, 0, 0, 0),
        (".shstrtab", 3, names, 0, 0, 0),
    ):
        headers += struct.pack(
            "<IIQQQQIIQQ", names.index(name.encode() + b"\0"), kind, 0, address, position,
            len(content), link, 0, 1, entry,
        )  # fmt: skip
        parts.append(content)
        position += len(content)
    head = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, TEXT + HEADERS, 64, position, 0, 64, 56, 2, 64, 6, 5
    )
    head += struct.pack("<IIQQQQQQ", 1, 5, 0, TEXT, TEXT, data_offset, data_offset, 4096)
    head += struct.pack("<IIQQQQQQ", 1, 6, data_offset, DATA, DATA, len(data), len(data), 4096)
    return head + b"".join(parts) + headers


def probed_program(path: Path, rounds: int, semaphore: bool = True) -> dict[str, int]:
    """A program that waits for a byte on its standard input, and passes its probes as
    often as said: ``test:guarded(-i, i)`` while somebody watches it (its exit status
    is how often, modulo 256), then ``test:free(i & 0xff, -7)`` twice, whose arguments
    are written in two ways, for i from ``rounds`` down to 1. The addresses of what
    is in it."""
    start = TEXT + HEADERS
    if ARM64:
        made, offsets = arm64_code.probed(rounds, SEMAPHORE)
        return _probed(
            path, made, {name: start + offset for name, offset in offsets.items()}, semaphore
        )
    code = bytearray()
    places: dict[str, int] = {"_start": start}

    def put(text: str) -> None:
        code.extend(bytes.fromhex(text))

    def here() -> int:
        return start + len(code)

    put("31c0 31ff 488d7424f0 ba01000000 0f05")  # read(0, stack, 1)
    put("bb" + struct.pack("<I", rounds).hex() + "4531e4")  # ebx: rounds, r12d: 0
    places["loop"] = here()
    put("89d8 f7d8 48895c24e0")  # eax: -i; at -32(rsp): i
    put("66833d" + struct.pack("<i", SEMAPHORE - here() - 8).hex() + "00")  # cmpw $0, semaphore
    put("7404")  # if it is: over the probe
    places["guarded"] = here()
    put("90 41ffc4")
    places["first"] = here()
    put("90 48c7c1f9ffffff 48894c24d8")  # rcx and -40(rsp): -7
    places["second"] = here()
    put("90 ffcb")
    put("0f85" + struct.pack("<i", places["loop"] - here() - 6).hex())
    put("4489e7 b83c000000 0f05")  # exit(r12d)
    places["end"] = here()
    return _probed(path, bytes(code), places, semaphore)


# Where the arguments of test:guarded are, and of test:free at both its places.
GUARDED, FIRST, SECOND = (
    ("-4@w9 8@[sp, -32]", "1@w19 -8@-7", "1@[sp, -32] -8@x11")
    if ARM64
    else ("-4@%eax 8@-32(%rsp)", "1@%bl -8@$-7", "1@-32(%rsp) -8@%rcx")
)


def _probed(path: Path, code: bytes, places: dict[str, int], semaphore: bool) -> dict[str, int]:
    """Write the program with its probes."""
    notes = [
        note("test", "guarded", places["guarded"], GUARDED, SEMAPHORE * semaphore),
        note("test", "free", places["first"], FIRST),
        note("test", "free", places["second"], SECOND),
    ]
    functions = [
        ("_start", places["_start"], places["loop"] - places["_start"]),
        ("loop", places["loop"], places["end"] - places["loop"]),
    ]
    path.write_bytes(elf(code, b"".join(notes), functions))
    path.chmod(0o755)
    return places


def lookup_program(path: Path, host: str, loader: str, library: str) -> None:
    """A program linked with a C library, that calls getaddrinfo(3) for ``host`` for each
    byte on its standard input, and writes a byte when that has returned."""
    base = TEXT
    code_at, data_at = base + 0x1000, base + 0x2000
    strings = b"\0getaddrinfo\0" + library.encode() + b"\0"
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 0x12, 0, 0, 0, 0)
    hashes = struct.pack("<IIIII", 1, 2, 1, 0, 0)
    data = bytearray()
    places: dict[str, int] = {}

    def put(name: str, content: bytes) -> None:
        places[name] = data_at + len(data)
        data.extend(content + bytes(-len(content) % 16))

    put("function", bytes(8))
    put("result", bytes(8))
    put("host", host.encode() + b"\0")
    put("loader", loader.encode() + b"\0")
    put("strings", strings)
    put("symbols", symbols)
    put("hashes", hashes)
    glob_dat = 1025 if ARM64 else 6  # R_AARCH64_GLOB_DAT, R_X86_64_GLOB_DAT
    put("relocation", struct.pack("<QQq", places["function"], 1 << 32 | glob_dat, 0))
    dynamic = [
        (1, 13), (4, places["hashes"]), (5, places["strings"]), (6, places["symbols"]),
        (10, len(strings)), (11, 24), (7, places["relocation"]), (8, 24), (9, 24), (24, 0), (0, 0),
    ]  # fmt: skip
    put("dynamic", b"".join(struct.pack("<QQ", *entry) for entry in dynamic))

    if ARM64:
        code = arm64_code.looking_up(places["result"], places["host"], places["function"])
    else:
        code = _looking_up(places)

    def segment(kind: int, flags: int, start: int, size: int) -> bytes:
        offset = start - base
        return struct.pack("<IIQQQQQQ", kind, flags, offset, start, start, size, size, 16)

    whole = 0x2000 + len(data)
    head = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, MACHINES[MACHINE], 1, code_at, 64, 0, 0, 64, 56, 5, 0, 0, 0
    )
    head += segment(3, 4, places["loader"], len(loader) + 1)
    head += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, 0x2000, 0x2000, 4096)
    head += struct.pack("<IIQQQQQQ", 1, 6, 0x2000, data_at, data_at, len(data), len(data), 4096)
    head += segment(2, 6, places["dynamic"], 16 * len(dynamic))
    head += struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # no code on the stack
    content = bytearray(whole)
    content[: len(head)] = head
    content[0x1000 : 0x1000 + len(code)] = code
    content[0x2000:] = data
    path.write_bytes(content)
    path.chmod(0o755)


def _looking_up(places: dict[str, int]) -> bytes:
    """The code of `lookup_program` on x86-64."""
    code = bytearray()

    def code_of(text: str) -> None:
        code.extend(bytes.fromhex(text))

    def address(name: str) -> str:
        return struct.pack("<I", places[name]).hex()

    code_of("31c0 31ff be" + address("result") + "ba01000000 0f05")  # read(0, result, 1)
    code_of("85c0 7e" + struct.pack("b", 0x2D).hex())  # at its end: to exit
    code_of("bf" + address("host") + "31f6 31d2 b9" + address("result"))
    code_of("ff1425" + address("function"))
    code_of("b801000000 bf01000000 be" + address("host") + "ba01000000 0f05")  # write(1, host, 1)
    code_of("eb" + struct.pack("b", -(len(code) + 2)).hex())
    target = len(code)
    code_of("31ff b8e7000000 0f05")  # exit_group(0)
    code[code.index(b"\x85\xc0\x7e") + 3] = target - code.index(b"\x85\xc0\x7e") - 4
    return bytes(code)


def nesting_program(path: Path, rounds: int) -> None:
    """A program that waits for a byte on its standard input, and has functions of the
    C library's names. In each round getaddrinfo("one") calls gethostbyname("one"), then
    gethostbyname("two"); twice getaddrinfo("left") is left by a jump, as by longjmp(3), and
    getaddrinfo called from further down on the stack: for "left", then for "one"."""
    start = TEXT + HEADERS
    one, two, left = DATA, DATA + 16, DATA + 32
    data = b"one".ljust(16, b"\0") + b"two".ljust(16, b"\0") + b"left".ljust(224, b"\0")
    # Into the page of the names is read: what nobody has touched is not in memory.
    make = arm64_code.nesting if ARM64 else _nesting
    code, lookup, begin = make(rounds, one, two, left, DATA + 128)
    content = bytearray(
        elf(
            code, data=data, exported=True,
            functions=[("gethostbyname", start, 4), ("getaddrinfo", start + lookup, 60)],
        )
    )  # fmt: skip
    struct.pack_into("<Q", content, 24, start + begin)
    path.write_bytes(content)
    path.chmod(0o755)


def _nesting(rounds: int, one: int, two: int, left: int, touched: int) -> tuple[bytes, int, int]:
    """The code of `nesting_program` on x86-64; where in it getaddrinfo is, and the beginning."""
    code = bytearray()

    def put(text: str) -> None:
        code.extend(bytes.fromhex(text))

    def number(value: int) -> str:
        return struct.pack("<i", value).hex()

    # gethostbyname: returns its argument.
    by_name = 0
    put("4889f8 c3")
    # getaddrinfo: esi says what it does.
    lookup = len(code)
    put("83fe01 740f")  # 1: the same name
    put("83fe02 7412")  # 2: another
    put("83fe03 7417")  # 3: leave
    put("31c0 c3 909090909090")
    same = len(code)
    put("e8" + number(by_name - len(code) - 5) + "31c0 c3")
    other = len(code)
    put("bf" + number(two) + "e8" + number(by_name - len(code) - 10) + "31c0 c3")
    leave = len(code)
    put("4889ec 41ffe7")  # with the stack of rbp, to r15
    for at, target in ((3, same), (8, other), (13, leave)):
        code[lookup + at + 1] = target - (lookup + at + 2)
    begin = len(code)
    put("31c0 31ff be" + number(touched) + "ba01000000 0f05 4889e5 bb" + number(rounds))
    again = len(code)

    def call(host: int, what: int) -> None:
        put("bf" + number(host) + "be" + number(what) + "e8")
        put(number(lookup - len(code) - 4))

    call(one, 1)
    call(one, 2)
    for host in (left, one):
        put("4c8d3d" + number(15))  # r15: behind the call
        call(left, 3)
        put("4883ec40")
        call(host, 0)
        put("4883c440")
    put("ffcb 0f85" + number(again - len(code) - 8))
    put("31ff b83c000000 0f05")
    return bytes(code), lookup, begin


def hostile(path: Path, *sections: tuple[int, int, bytes, int, int]) -> None:
    """A file of sections as somebody would have them who wants to use up the memory and the time of
    whoever reads it: (type, size, what is at its start, number of the linked one, size of an
    entry). What is beyond the start are zeros, of which the disk has none. All that is in memory
    is the first MiB of the file, at address 0."""
    headers, position = bytes(64), 1 << 20
    with path.open("wb") as file:
        for kind, size, start, link, entry in sections:
            headers += struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, position, size, link, 0, 1, entry)
            file.seek(position)
            file.write(start)
            position += size
        file.truncate(position)
        file.seek(position)
        file.write(headers)
        head = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
            "<HHIQQQIHHHHHH", 3, MACHINES.get(MACHINE, 62), 1, 0, 64, position, 0, 64, 56, 1, 64,
            len(sections) + 1, 0,
        )  # fmt: skip
        file.seek(0)
        file.write(head + struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 1 << 20, 1 << 20, 4096))
