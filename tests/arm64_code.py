"""Machine code of arm64, for the programs that elf_files.py and machine_code.py make."""
from __future__ import annotations

import struct
from pathlib import Path


def words(text: str) -> bytes:
    """Instructions as a disassembler shows them, in memory."""
    return b"".join(bytes.fromhex(word)[::-1] for word in text.split())


def probed(rounds: int, semaphore: int) -> tuple[bytes, dict[str, int]]:
    """The code of `elf_files.probed_program`, and where in it its places are."""
    parts = {
        # mov x8, #63; mov x0, #0; sub x1, sp, #16; mov x2, #1; svc #0: read(0, stack, 1)
        # ldr w19, =rounds; mov w20, #0
        "_start": "d28007e8 d2800000 d10043e1 d2800022 d4000001 180002b3 52800014",
        # neg w9, w19; stur x19, [sp, #-32]: -i and i
        # ldr x10, =semaphore; ldrh w10, [x10]; cbz w10, first
        "loop": "4b1303e9 f81e03f3 580001ea 7940014a 3400006a",
        "guarded": "d503201f 11000694",  # nop; add w20, w20, #1
        "first": "d503201f 928000cb f81d83eb",  # nop; mov x11, #-7; stur x11, [sp, #-40]
        # nop; subs w19, w19, #1; b.ne loop; mov w0, w20; mov x8, #93; svc #0: exit(w20); nop
        "second": "d503201f 71000673 54fffe81 2a1403e0 d2800ba8 d4000001 d503201f",
    }
    code, places = b"", {}
    for name, text in parts.items():
        places[name] = len(code)
        code += words(text)
    places["end"] = len(code)
    return code + struct.pack("<QI", semaphore, rounds), places


def looking_up(result: int, host: int, function: int) -> bytes:
    """The code of `elf_files.lookup_program`."""
    code = words(
        # read(0, result, 1); cmp x0, #0; b.le exit
        "d28007e8 d2800000 580002c1 d2800022 d4000001 f100001f 540001cd"
        # ldr x0, =host; mov x1, #0; mov x2, #0; ldr x3, =result; ldr x16, =function;
        # ldr x16, [x16]; blr x16
        " 58000260 d2800001 d2800002 580001c3 58000230 f9400210 d63f0200"
        # write(1, host, 1); b to the beginning
        " d2800808 d2800020 58000141 d2800022 d4000001 17ffffed"
        # exit: exit_group(0); nop
        " d2800000 d2800bc8 d4000001 d503201f"
    )
    return code + struct.pack("<QQQ", result, host, function)


def nesting(rounds: int, one: int, two: int, left: int, touched: int) -> tuple[bytes, int, int]:
    """The code of `elf_files.nesting_program`; where in it getaddrinfo is, and the beginning.
    gethostbyname is the first."""
    by_name = words("d65f03c0")  # ret
    lookup = words(
        # w1 says what it does: cmp w1, #1; b.eq same; cmp w1, #2; b.eq other; cmp w1, #3;
        # b.eq leave; mov w0, #0; ret
        "7100043f 540000e0 7100083f 540000e0 71000c3f 54000160 52800000 d65f03c0"
        # same: stp x29, x30, [sp, #-16]!; b call
        # other: stp x29, x30, [sp, #-16]!; ldr x0, =two
        # call: bl gethostbyname; ldp x29, x30, [sp], #16; mov w0, #0; ret
        " a9bf7bfd 14000003 a9bf7bfd 580005c0 97fffff3 a8c17bfd 52800000 d65f03c0"
        # leave: mov sp, x21; br x22
        " 910002bf d61f02c0"
    )
    rest = words(
        # read(0, touched, 1); mov x21, sp; ldr w19, =rounds
        "d28007e8 d2800000 58000521 d2800022 d4000001 910003f5 180004f3"
        # getaddrinfo(one, 1); getaddrinfo(one, 2)
        " 580003c0 52800021 97ffffe5 58000360 52800041 97ffffe2"
        # adr x22, behind the call; getaddrinfo(left, 3); sub sp, sp, #64; getaddrinfo(left, 0);
        # add sp, sp, #64
        " 10000096 58000360 52800061 97ffffde d10103ff 580002e0 52800001 97ffffda 910103ff"
        # the same; getaddrinfo(one, 0)
        " 10000096 58000240 52800061 97ffffd5 d10103ff 58000140 52800001 97ffffd1 910103ff"
        # subs w19, w19, #1; b.ne to the first call; exit(0); nop
        " 71000673 54fffce1 d2800000 d2800ba8 d4000001 d503201f"
    )
    numbers = struct.pack("<QQQQQ", one, two, left, touched, rounds)
    return by_name + lookup + rest + numbers, len(by_name), len(by_name) + len(lookup)


def program_of_32_bits(path: Path, call: int, times: int, line: bytes) -> None:
    """A 32-bit program, in whose numbers ``call`` is a system call without arguments: it makes that
    so often, writes ``line``, of at most eight bytes, waits for a byte, and ends."""
    code = words(
        # sub sp, sp, #16; ldr r4, =times
        "e24dd010 e59f4048"
        # ldr r7, =call; svc 0; subs r4, r4, #1; bne to the svc
        " e59f7048 ef000000 e2544001 1afffffc"
        # write(1, line, size)
        " e3a07004 e3a00001 e28f1024 e59f2030 ef000000"
        # read(0, stack, 1)
        " e3a07003 e3a00000 e1a0100d e3a02001 ef000000"
        # exit(0)
        " e3a07001 e3a00000 ef000000"
    )
    code += line.ljust(8, b"\0") + struct.pack("<III", times, call, len(line))
    base, start = 0x10000, 52 + 32
    head = b"\x7fELF\1\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIIIIIHHHHHH", 2, 40, 1, base + start, 52, 0, 0x5000400, 52, 32, 1, 0, 0, 0
    )
    size = start + len(code)
    head += struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 4096)
    path.write_bytes(head + code)
    path.chmod(0o755)
