#!/usr/bin/python3
"""Random damage to what others write and the tools read: an answer or a Failure, soon, and nothing
else.

    tests/fuzz_bytes.py [--seconds N] [--seed N] [TARGET ...]

Each target has so many seconds. An input is one of the samples with some bytes changed, cut out,
doubled or mixed with another's; those that took a way of their own (by the words of the Failure,
or by how much was found) are kept as samples.
"""
from __future__ import annotations

import argparse
import os
import random
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Callable

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), HERE]

import elf_files  # noqa: E402
from pytools.base.errors import Failure  # noqa: E402
from pytools.base.text import csv_field, escape, escape_line, json_text, text_of  # noqa: E402
from pytools.compile import usdt  # noqa: E402
from pytools.compile.image import Image, MapSpec, ProgramSpec  # noqa: E402
from pytools.domains import commands, containers, dns, open_files  # noqa: E402
from pytools.facts.btf import Btf  # noqa: E402
from pytools.facts.elf import File  # noqa: E402

MOST_SAMPLES = 500
SLOW_SECONDS = 2.0
NUMBERS = [0, 1, 127, 128, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1]


def damaged(chance: random.Random, samples: list[bytes]) -> bytes:
    data = bytearray(chance.choice(samples))
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        place = chance.randrange(len(data) + 1)
        if data and chance.random() < 0.3:  # the head and the tables at the end
            place = chance.choice((place % 256, len(data) - 1 - place % 512)) % len(data)
        what, size = chance.randrange(6), chance.choice((1, 2, 4, 8))
        if what == 0:
            data[place : place + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            number = chance.choice(NUMBERS) & (1 << 8 * size) - 1
            written = number.to_bytes(size, "little")
            data[place : place + size] = written if chance.random() < 0.5 else written[::-1]
        elif what == 2:
            del data[place : place + chance.randrange(1, 64)]
        elif what == 3:
            data[place:place] = data[place : place + chance.randrange(1, 64)]
        elif what == 4:
            other = chance.choice(samples)
            start = chance.randrange(len(other) + 1)
            data[place : place + 16] = other[start : start + 16]
        else:
            del data[place:]
    return bytes(data)


# What reads each, and what tells ways through it apart.


def read_elf(data: bytes) -> Any:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as place:
        place.write(data)
        place.flush()
        found: list[Any] = []
        with File(place.name) as file:
            for part in (file.functions, file.exported, file.symbol_names, file.probes):
                try:
                    found.append(len(list(part())))
                except Failure as failure:
                    found.append(str(failure).rpartition("(")[2][:20])
            file.offset_of(0, code=True)
        return tuple(found)


def read_btf(data: bytes) -> Any:
    btf = Btf(data)
    for name in ("task_struct", "a", ""):
        struct_id = btf.struct(name, ["pid"])
        if struct_id:
            btf.size(struct_id)
            btf.members(struct_id)
    btf.enumerators({"A", "ONE"})
    btf.declare({"task_struct", "a"}, {"pid", "comm", "b"}, {"pid_t"}, set())
    return len(btf.index)


def read_arguments(data: bytes) -> Any:
    text = text_of(data)
    return [
        [each and each.memory for each in usdt.arguments(text, machine)]
        for machine in ("x86_64", "aarch64")
    ]


def read_answer(data: bytes) -> Any:
    names = dns.Names(lambda text: None)
    names.learn(1, data)
    try:
        return len(dns.answers(data)[1])
    except ValueError as error:
        return str(error)


def read_image(data: bytes) -> Any:
    try:
        return len(Image.parse(data).programs)
    except ValueError as error:
        return str(error)[:20]


def read_text(data: bytes) -> Any:
    text = text_of(data)
    assert escape(text).isprintable() and json_text(text).isprintable()
    assert escape_line(text).replace("\t", "").isprintable()
    assert not csv_field(text).startswith(("=", "+", "-", "@", "\t"))
    assert text_of(json_text(text).encode()).isascii()
    containers.container_of(text)
    open_files.whole_path(data)
    made = commands.arguments(data, 3, True)
    commands.command_line(True, 3)(made)
    commands.exact_line(made)
    return len(escape(text)) - len(text) > 9


def note_samples() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probed"
        elf_files.probed_program(path, 1)
        code = elf_files.elf(
            b"\x90" * 64, elf_files.note("a", "b", elf_files.TEXT + 0x200, "8@%rax"),
            functions=[("f@@V_1", elf_files.TEXT + 0x200, 8)], exported=True,
        )  # fmt: skip
        elf_files.hostile(path.with_name("h"), (11, 96, b"", 2, 24), (3, 64, b"\0ab\0", 0, 0),
                          (0x6FFFFFFD, 28, struct.pack("<HHHHIIIII", 1, 0, 2, 1, 0, 20, 0, 1, 0),
                           2, 0), (0x6FFFFFFF, 8, b"\2\0\2\0", 1, 2))  # fmt: skip
        hostile = path.with_name("h").read_bytes()
        return [path.read_bytes(), code, hostile]


def types() -> bytes:
    """An integer, a struct of two of them and an enum, by hand (linux/btf.h)."""
    strings = b"\0int\0task_struct\0pid\0comm\0ONE\0"
    words = struct.pack("<IIII", 1, 1 << 24, 4, 32)
    words += struct.pack("<IIIIIIIII", 5, 4 << 24 | 2, 8, 17, 1, 0, 21, 1, 32)
    words += struct.pack("<IIIII", 0, 6 << 24 | 1, 4, 26, 1)
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(words), len(words), len(strings))
    return head + words + strings


ANSWER = (
    b"\0\7\x81\x80\0\1\0\2\0\0\0\0\1a\7example\0\0\1\0\1"
    b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1\xc0\x0c\0\x1c\0\1\0\0\0\x3c\0\x10" + b"\1" * 16
)
IMAGE = Image(
    [MapSpec("counts", 1, 4, 8, 7, 0, "unsigned int", ["a", [["b", "char", [16]]], "struct"])],
    [ProgramSpec("program", "perf_event", "", bytes(16), [(0, "counts")], [(0, "PID")], 0)],
).dump()
TARGETS: dict[str, tuple[Callable[[bytes], Any], Callable[[], list[bytes]]]] = {
    "elf": (read_elf, note_samples),
    "btf": (read_btf, lambda: [types()]),
    "usdt": (read_arguments, lambda: [
        b"-4@%eax 8@-16(%rbp) 4@8(%rax,%rdx,4) 8@$-1 8f@%xmm0", b"8@[sp, 12] -4@w0 4@[x1, x2]",
    ]),
    "dns": (read_answer, lambda: [ANSWER]),
    "image": (read_image, lambda: [IMAGE]),
    "text": (read_text, lambda: [
        f"/docker/{'a' * 64}/=1\u0301\u202e\ufe0f".encode(), b"lxc/a\0b\0/\0", b"\x1b[2J\xff\x9b",
    ]),
}  # fmt: skip


def fuzz(target: str, seconds: float, chance: random.Random) -> int:
    """Try a target for so long; how many inputs went wrong, each of which is kept in a file."""
    read, make = TARGETS[target]
    samples, seen, wrong, tried, slowest = make(), set(), 0, 0, 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = damaged(chance, samples)
        tried += 1
        start = time.process_time()
        try:
            way: Any = repr(read(data))
        except Failure as failure:
            way = str(failure).rpartition(": ")[2][:40]
        except Exception:  # what this looks for
            way = None
        took = time.process_time() - start
        slowest = max(slowest, took)
        if way is None or took > SLOW_SECONDS:
            wrong += 1
            with tempfile.NamedTemporaryFile(prefix=f"{target}-", delete=False) as kept:
                kept.write(data)
            print(f"{target}: {took:.1f} s, kept in {kept.name}", flush=True)
            if way is None and wrong < 5:
                traceback.print_exc()
        elif way not in seen and len(samples) < MOST_SAMPLES:
            seen.add(way)
            samples.append(data)
    print(
        f"{target}: {tried} inputs, {len(seen)} ways, slowest {slowest * 1000:.0f} ms; "
        f"{wrong} wrong",
        flush=True,
    )
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    raise SystemExit(
        bool(sum(fuzz(each, options.seconds, chance) for each in options.targets or TARGETS))
    )


if __name__ == "__main__":
    main()
