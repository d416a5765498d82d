"""What bt prints: values, formats, maps and graphs as bpftrace has them, in text and in JSON."""
from __future__ import annotations

import ctypes
import json as python_json
import os
import re
import struct
from typing import Any, Sequence

import pytest

from pytools.bt.plan import MapPlan, Record
from pytools.bt.show import formats, graphs, values
from pytools.bt.show.build_ids import BuildIds
from pytools.bt.show.lines import JsonLines, Lines
from pytools.bt.show.names import Names, format_time
from pytools.bt.show.tables import Table
from pytools.bt.show.shapes import Array, Named, Shown, Tuple
from pytools.compile.image import MapSpec
from pytools.facts.elf import File

pytestmark = pytest.mark.host_only

INT, UINT, LONG, ULONG = (
    ["int", size, signed] for size, signed in ((4, True), (4, False), (8, True), (8, False))
)
NAMES = Names(["begin", "kprobe:vfs_read"], {}, longest=100)


def conversion(text: str) -> list[Any]:
    """A piece of a format, of %FLAGSWIDTHLENGTHLETTER."""
    flags = text[1 : len(text) - len(text[1:].lstrip("-+ #0"))]
    rest = text[1 + len(flags) :]
    width = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    rest = rest[len(width) :]
    letter = next(end for end in ("rx", "rh", "gr", rest[-1]) if rest.endswith(end))
    return [flags, int(width or 0), None, rest[: len(rest) - len(letter)], letter]


def printf(form: str, *arguments: tuple[list[Any], Any], quote: Any = None) -> str:
    """A format of one conversion a word, with arguments of (type, value), by way of a record."""
    pieces: list[Any] = []
    for number, word in enumerate(form.split(" ")):
        pieces += [" "] if number else []
        pieces.append(conversion(word) if word.startswith("%") else word)
    places, data, tail = [], b"", b""
    for kind, value in arguments:
        size = 4 if kind[0] == "string" else values.size_of(kind)
        data = data.ljust(-(-len(data) // min(size, 8)) * min(size, 8), b"\0")
        places.append([len(data), kind])
        if kind[0] == "string":
            data += struct.pack("=I", len(value))
            tail += value
        elif isinstance(value, bytes):
            data += value
        else:
            data += (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    record = Record("printf", places, len(data), pieces)
    return formats.format_of(record, NAMES, quote)(data + tail)


# A number is converted to the type of the conversion, whatever it is itself.


@pytest.mark.parametrize("kind", [INT, LONG, ["int", 1, True]])
def test_of_minus_one_each_conversion_prints_its_own_width(kind: list[Any]) -> None:
    all_bits = (1 << 64) - 1
    for form, text in {
        "%d": "-1", "%u": str((1 << 32) - 1), "%x": "ffffffff", "%lx": "f" * 16, "%hhx": "ff",
        "%hu": "65535", "%llu": str(all_bits), "%ld": "-1", "%jd": "-1", "%X": "F" * 8,
    }.items():  # fmt: skip
        assert printf(form, (kind, -1)) == text, form


def test_a_wide_number_is_cut_by_a_narrow_conversion() -> None:
    number = 0x12345678ABCDEF
    forms = "%hhx %hx %x %jx"
    assert printf(forms, *[(LONG, number)] * 4) == "ef cdef 78abcdef 12345678abcdef"
    assert printf("%d", (ULONG, 1 << 31)) == str(-(1 << 31))
    assert printf("%ld", (UINT, (1 << 32) - 1)) == str((1 << 32) - 1)


@pytest.mark.parametrize(
    "form, value, text",
    [
        ("%5d|", 7, "    7|"), ("%-5d|", 7, "7    |"), ("%05d", 7, "00007"), ("%+d", 7, "+7"),
        ("%#x", 255, "0xff"), ("%#o", 8, "010"), ("%o", 8, "10"), ("%#o", 0, "0"), ("%c", 65, "A"),
        ("%p", 4096, "0x1000"), ("%c", 27, r"\x1b"), ("%X", 171, "AB"),
    ],
)  # fmt: skip
def test_flags_and_widths(form: str, value: int, text: str) -> None:
    rest = form.endswith("|")
    assert printf(form.rstrip("|"), (LONG, value)) + "|" * rest == text


def test_texts_are_escaped_and_padded() -> None:
    assert printf("%5s %-5s %s", *[(["string", 64], b"ab")] * 3) == "   ab ab    ab"
    hostile = b"a\x1b[2J\n\xff\\"
    assert printf("%s", (["string", 64], hostile)) == r"a\x1b[2J\x0a\xff" + "\\" * 2


def test_a_literal_of_the_script_is_printed_as_it_is() -> None:
    literal = b"a\x1b[1m\n"
    assert printf("%s", (["string", 64, "own"], literal)) == literal.decode()
    assert printf("%s", (["string", 64, "own"], literal), quote=lambda n, text: "x") == "a\x1b[1m\n"


def test_a_text_that_fills_its_type_was_cut() -> None:
    long = b"a" * 100
    assert printf("%s %s", (["string", 100], long), (["string", 101], long)) == (
        "a" * 100 + ".. " + "a" * 100
    )
    assert printf("%s", (["string", 4], b"abcd")) == "abcd"  # a member of a struct, say


def test_text_takes_values_of_every_type() -> None:
    for kind, data, text in (
        (INT, -3, "-3"),
        (["bool"], 1, "true"),
        (["enum", 4, False, {"1": "ONE"}], 1, "ONE"),
        (["enum", 4, False, {"1": "ONE"}], 9, "9"),
        (["pointer", "struct file"], 0xFF, "0xff"),
        (["inet"], struct.pack("=I16s", 2, bytes([127, 0, 0, 1])), "127.0.0.1"),
        (["inet"], struct.pack("=I16s", 10, bytes(15) + b"\1"), "::1"),
        (["mac"], bytes([5, 4, 3, 2, 1, 255]), "05:04:03:02:01:FF"),
        (["strerror"], 2, "No such file or directory"),
        (["signal_name"], 2, "Interrupt"),
        (["signal_name"], 0, "Unknown signal 0"),
        (["signal_name"], 1024, "N/A"),
        (["username"], 0, "root"),
        (["probe"], 1, "kprobe:vfs_read"),
        (["func"], 1, "vfs_read"),
        (["tuple", 8, [[0, INT], [4, INT]]], struct.pack("=ii", 1, -2), "(1, -2)"),
        (["record", 8, [["m", 0, INT], ["n", 4, INT]]], struct.pack("=ii", 2, 3),
         "{ .m = 2, .n = 3 }"),
        (["array", 2, 4, INT], struct.pack("=ii", 1, 2), "[1,2]"),
        (["record", 4, [["a", 0, UINT, 0, 4], ["b", 0, INT, 4, 3]]], struct.pack("=I", 0b1011001),
         "{ .a = 9, .b = -3 }"),
    ):  # fmt: skip
        shown: Any = (kind, data)
        assert printf("%s", shown) == text, kind
    assert printf("%d", (["bool"], 1)) == "1" and printf("%d", (["enum", 4, True, {}], -1)) == "-1"


def test_buffers() -> None:
    kind, data = ["buffer", 8], struct.pack("=I8s", 6, b"Hell\x1b\0")
    assert printf("%r", (kind, data)) == r"Hell\x1b\x00"
    assert printf("%rx", (kind, data)) == r"\x48\x65\x6c\x6c\x1b\x00"
    assert printf("%rh", (kind, data)) == "48 65 6c 6c 1b 00"


# Commands: text of the traced is one word, whatever it is and wherever it stands.


@pytest.mark.parametrize("around", ["%s", "'%s'", '"%s"', "x%sy", "$(echo %s)", "`echo %s`"])
def test_no_text_runs_a_command(around: str, tmp_path: Any) -> None:
    import subprocess

    from pytools.bt import outside

    before, _, behind = around.partition("%s")
    pieces = [f"printf %s {before}", ["", 0, None, "", "s"], behind]
    record = Record("system", [[0, ["string", 100]]], 4, pieces)
    made = formats.format_of(record, NAMES, outside.quoting(pieces))
    for text in (
        f"$(touch {tmp_path}/a)", f"`touch {tmp_path}/a`", f"; touch {tmp_path}/a;",
        f"'; touch {tmp_path}/a; '", f'"; touch {tmp_path}/a; "', f"\\'; touch {tmp_path}/a #",
        "plain", "two words", "-n",
    ):  # fmt: skip
        command = made(struct.pack("=I", len(text)) + text.encode())
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert not list(tmp_path.iterdir()), command
        if around in ("%s", "'%s'", '"%s"'):
            assert done.stdout == text


# Histograms.


def bucket(value: int, bits: int) -> int:
    """The number of a value's bucket, as the C of the programs has it."""
    if value < 0:
        return 0
    if value < 2 << bits:
        return value + 1
    power = value.bit_length() - 1 - bits
    return (power << bits) + (value >> power) + 1


def test_a_histogram_of_powers_of_two() -> None:
    counts: dict[int, int] = {}
    for value in (-1, 2, 3, 7, 20):
        counts[bucket(value, 0)] = counts.get(bucket(value, 0), 0) + 1
    lines = graphs.log2(counts, 0).text().splitlines()
    assert [line.split("|")[0].rstrip() for line in lines] == [
        "(..., 0)               1", "[0]                    0", "[1]                    0",
        "[2, 4)                 2", "[4, 8)                 1", "[8, 16)                0",
        "[16, 32)               1",
    ]  # fmt: skip
    assert [len(line) for line in lines] == [79] * 7
    assert [line.count("@") for line in lines] == [26, 0, 0, 52, 26, 0, 26]


@pytest.mark.parametrize("bits", range(6))
def test_every_bucket_says_what_is_in_it(bits: int) -> None:
    for value in [*range(300), 1000, 1024, 4095, 1 << 20, (1 << 40) + 5, (1 << 63) - 1]:
        (found,) = graphs.log2({bucket(value, bits): 1}, bits).buckets
        assert found.low is not None and found.high is not None
        assert found.low <= value < found.high
        (shown,) = python_json.loads(graphs.log2({bucket(value, bits): 1}, bits).json())
        if value < 1 << 53:
            assert (shown["min"], shown["max"]) == (found.low, found.high - 1)
    edges = [graphs.log2({number: 1}, bits).buckets[0] for number in range(1, 40)]
    assert all(one.high == following.low for one, following in zip(edges, edges[1:]))


def test_large_numbers_have_suffixes() -> None:
    (found,) = graphs.log2({bucket(1500, 0): 1}, 0).buckets
    assert found.label == "[1K, 2K)"
    (found,) = graphs.log2({bucket(10 << 30, 0): 1}, 0).buckets
    assert (found.label, found.low) == ("[8G, 16G)", 8 << 30)


def test_a_linear_histogram() -> None:
    histogram = graphs.linear({0: 1, 2: 2, 4: 1, 6: 1}, 0, 10, 2)
    assert [bucket.label for bucket in histogram.buckets] == [
        "(..., 0)", "[0, 2)", "[2, 4)", "[4, 6)", "[6, 8)", "[8, 10)", "[10, ...)",
    ]  # fmt: skip
    assert python_json.loads(histogram.json())[0] == {"max": -1, "count": 1}
    assert python_json.loads(histogram.json())[-1] == {"min": 10, "count": 1}
    assert graphs.linear({}, 0, 10, 2).json() == "[]"


def test_a_time_series() -> None:
    second = 1_000_000_000
    series = graphs.series({5: 3, 7: -3}, second // 10, 0, 7)
    assert python_json.loads(series.json()) == [
        {"interval_start": "1970-01-01 00:00:00.500000000", "value": 3},
        {"interval_start": "1970-01-01 00:00:00.700000000", "value": -3},
    ]
    lines = series.text().splitlines()
    assert lines[1].startswith("hh:mm:ss.ms  |___") and len(lines[1]) == 13 + 53
    assert [line[-1] for line in lines[2:5]] == ["3", "-", "3"]
    assert lines[2][13 + 52] == "*" and lines[4][13] == "*" and lines[3][13 + 26] == "."


# Maps.


class MadeMap:
    """A map of the kernel's, with what is in it."""

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]], cpus: int = 0) -> None:
        self.pairs = list(pairs)
        self.per_cpu = cpus
        self.spec = MapSpec("m", 5, 4, 8, 10, 0, None, None)

    def raw(self) -> list[tuple[bytes, bytes]]:
        return self.pairs

    def take_raw(self, wanted: Any) -> list[tuple[bytes, bytes]]:
        taken = [pair for pair in self.pairs if wanted(pair[0])]
        self.pairs = [pair for pair in self.pairs if not wanted(pair[0])]
        return taken


def table(key: list[Any], value: list[Any], pairs: Any, cpus: int = 0) -> Table:
    made: Any = MadeMap(pairs, cpus)
    return Table(MapPlan("@", "m", key, value, 10), made, NAMES)


def text_of(shown: Any, form: type[Lines] = Lines) -> str:
    lines: Any = form()
    written: list[str] = []
    lines.write = written.append
    lines.map(shown)
    return "".join(written)


def key(text: str, size: int = 8) -> bytes:
    return text.encode().ljust(size, b"\0")


def test_counts_are_added_over_cpus_and_sorted() -> None:
    pairs = [(key(name), struct.pack("=QQ", count, 1)) for name, count in (("b", 4), ("a", 9))]
    found = table(["string", 8], ["count"], pairs, 2)
    assert text_of(found.all()) == "@[b]: 5\n@[a]: 10\n"
    assert text_of(found.all(1)) == "@[a]: 10\n"
    assert text_of(found.all(0, 4)) == "@[b]: 1\n@[a]: 2\n"
    assert text_of(found.all(), JsonLines) == '{"type": "map", "data": {"@": {"b": 5, "a": 10}}}\n'


def test_signed_values_are_sorted_as_such() -> None:
    pairs = [(struct.pack("=i", number), struct.pack("=q", number)) for number in (3, -5, 0)]
    assert text_of(table(INT, LONG, pairs).all()) == "@[-5]: -5\n@[0]: 0\n@[3]: 3\n"


def test_values_without_an_order_are_sorted_by_key() -> None:
    kind = ["tuple", 16, [[0, INT], [4, ["string", 8]]]]
    pairs = [
        (struct.pack("=i8s4x", number, name.encode()), key("v", 4))
        for number, name in ((2, "a"), (-1, "b"), (-1, "a"))
    ]
    found = table(kind, ["string", 4], pairs)
    assert text_of(found.all()) == "@[-1, a]: v\n@[-1, b]: v\n@[2, a]: v\n"
    assert '{"-1,a": "v", ' in text_of(found.all(), JsonLines)


def test_extremes_count_on_cpus_that_saw_any() -> None:
    pairs = [(b"", struct.pack("=qQqQ", 0, 0, -5, 1))]
    assert text_of(table(["none"], ["max", True], pairs, 2).all()) == "@: -5\n"


def test_averages_are_cut_towards_zero() -> None:
    pairs = [(b"", struct.pack("=qQqQ", -7, 1, 0, 1))]
    assert text_of(table(["none"], ["avg", True], pairs, 2).all()) == "@: -3\n"
    stats = table(["none"], ["stats", True], pairs, 2)
    assert text_of(stats.all()) == "@: { .count = 2, .average = -3, .total = -7 }\n"
    assert text_of(stats.all(), JsonLines) == (
        '{"type": "stats", "data": {"@": {"count": 2, "average": -3, "total": -7}}}\n'
    )


def test_a_histogram_of_each_key() -> None:
    pairs = [
        (key("sh") + struct.pack("=I4x", number), struct.pack("=Q", count))
        for number, count in ((1, 2), (2, 1))
    ]
    found = table(["string", 8], ["hist", 0], pairs)
    assert text_of(found.all()).splitlines()[:2] == [
        "@[sh]:", "[0]                    2 |" + "@" * 52 + "|",
    ]  # fmt: skip
    assert python_json.loads(text_of(found.all(), JsonLines)) == {
        "type": "hist",
        "data": {"@": {"sh": [{"min": 0, "max": 0, "count": 2}, {"min": 1, "max": 1, "count": 1}]}},
    }


def test_counts_of_a_generation_that_ended_are_kept_until_they_are_cleared() -> None:
    def pair(generation: int, count: int) -> tuple[bytes, bytes]:
        return key("a") + struct.pack("=I4x", generation), struct.pack("=Q", count)

    made = MadeMap([pair(0, 5), pair(1, 2)])
    plan = MapPlan("@", "m", ["string", 8], ["count"], 10, True)
    found = Table(plan, made, NAMES)  # type: ignore[arg-type]
    found.ended(1)
    assert made.pairs == [pair(1, 2)]
    assert text_of(found.held()) == "@[a]: 5\n" and text_of(found.all()) == "@[a]: 7\n"
    found.ended(0)
    assert text_of(found.held()) == "@[a]: 7\n"
    found.zero_held()
    assert text_of(found.held()) == "@[a]: 0\n"
    found.clear_held()
    assert text_of(found.held()) == ""


# JSON, times.


def test_json_of_values() -> None:
    assert values.json(Tuple([1, "a\n", Tuple([4, 5]), Named("ONE", 1), True])) == (
        r'[1,"a\n",[4,5],1,true]'
    )
    assert values.json(Array([b"\xff\1"])) == "[[-1,1]]"
    assert values.json((1 << 53) + 1) == f'"{(1 << 53) + 1}"' and values.json(1 << 60) == str(
        1 << 60
    )
    assert values.json(Shown("\n  f+1\n")) == r'"\n  f+1\n"' and values.json(None) == "null"


def test_times_have_parts_of_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 1_000_123_456
    assert format_time("%s.%f %l %k %%f", moment, "wall") == "1.000123 000 000123456 %f"
    first = format_time("%s", 0, "boot")
    assert abs(int(first) - int(open("/proc/stat").read().split("btime ")[1].split()[0])) <= 1


def test_a_build_id_and_a_place_in_the_file() -> None:
    """By the loader's address of a function, and the place that its file's symbols give it."""
    address = ctypes.cast(ctypes.CDLL(None).getppid, ctypes.c_void_p).value
    assert address is not None
    with open("/proc/self/maps", encoding="utf-8") as lines:
        path = next(line.split()[-1] for line in lines if re.search("/libc[.-]", line))
    with File(path) as file:
        place = next(each.offset for each in file.exported() if each.name == "getppid")
        expected = f"{file.build_id()} {place:#x}"
    assert list(BuildIds().lines(os.getpid(), [address, 1])) == [expected, "1"]
    assert list(BuildIds().lines(1 << 30, [address])) == [f"{address:x}"]
