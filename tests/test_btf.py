"""BTF: layouts against bpftool's reading, on the running kernel; damaged files."""
from __future__ import annotations

import ctypes
import re
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import capture
from capture import RECORDED
from pytools.facts import kernel
from pytools.facts.btf import Btf
from pytools.compile.compiler import Compiler
from pytools.base.errors import Failure
from pytools.facts.kernel import Kernel
from pytools.compile.unrendered import Unrendered
from pytools.compile.template import render
from support import needs_btf
from witness import Place, Witness

VMLINUX = Path(kernel.BTF_PATH)
PROGRAM = "PERF_EVENT(program)\n{\n\treturn 0;\n}\n"
# bcc and clang have these names to themselves.
TAKEN = re.compile(r"bpf_\w+|__sk_buff|xdp_md|sk_reuseport_md|sk_msg_md|pt_regs")


def compiles(text: str) -> None:
    head = render(Unrendered(PROGRAM), capture.recorded("6.12"))
    with Compiler() as compiler:
        compiler.compile(head._replace(text=text + head.text))


@pytest.fixture(scope="module")
def witness() -> Witness:
    try:
        return Witness(str(VMLINUX))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("bpftool is missing, or too old for this kernel's types")


@pytest.fixture(scope="module")
def vmlinux() -> Btf:
    return Btf.read(str(VMLINUX))


# Layouts.


@pytest.mark.host_only
@needs_btf
def test_random_members_of_random_structs_are_where_bpftool_sees_them(
    witness: Witness, vmlinux: Btf
) -> None:
    unique = sorted(
        name for name, ids in witness.named.items() if len(ids) == 1 and not TAKEN.fullmatch(name)
    )

    @st.composite
    def choices(draw: Any) -> tuple[set[str], set[str]]:
        names = draw(st.sets(st.sampled_from(unique), min_size=1, max_size=40))
        members: set[str] = set()
        for name in sorted(names):
            places = sorted({place.name for place in witness.members(witness.named[name][0])})
            if places:
                members |= draw(st.sets(st.sampled_from(places), max_size=6))
        return names, members

    @hypothesis.given(choices())
    @hypothesis.settings(max_examples=15, phases=[hypothesis.Phase.generate])
    def check(chosen: tuple[set[str], set[str]]) -> None:
        names, members = chosen
        text = vmlinux.declare(names, members)
        text += "".join(witness.assertions(name, members) for name in sorted(names))
        compiles(text)

    check()


# Emulated, bpftool takes half a minute; and the recorded types are those of all kernels.
@pytest.mark.host_only
@needs_btf
def test_the_structs_that_tools_read_most_are_where_bpftool_sees_them(
    witness: Witness, vmlinux: Btf
) -> None:
    """All members of each: a union or a bit-field beside every other."""
    names = ["task_struct", "sock", "tcp_sock", "inet_sock", "dentry", "sk_buff", "rq", "cfs_rq"]
    names += ["mm_struct", "file", "inode", "request", "bio", "cgroup", "net_device", "page"]
    members = {name: {p.name for p in witness.members(witness.named[name][0])} for name in names}
    of_any = set().union(*members.values())
    asserted = "".join(witness.assertions(name, members[name]) for name in names)
    compiles(vmlinux.declare(names, of_any) + asserted)


def bit_field_program(text: str, name: str, fields: list[Place], size: int) -> str:
    """C whose function ``fill`` sets one bit-field of a zeroed struct to all ones."""
    cases = "".join(
        f"\tcase {number}: value->{field.name} = -1; break;\n"
        for number, field in enumerate(fields)
    )
    head = f'{text}\n_Static_assert(sizeof(struct {name}) == {size}, "size");\n'
    return head + f"void fill(struct {name} *value, int n)\n{{\n\tswitch (n) {{\n{cases}\t}}\n}}\n"


@pytest.mark.host_only
@needs_btf
@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_each_bit_field_is_the_bits_that_bpftool_sees(
    witness: Witness, vmlinux: Btf, tmp_path: Path
) -> None:
    found = {}
    for name in ["task_struct", "tcp_sock", "sk_buff", "sock", "sock_common"]:
        places = list(witness.members(witness.named[name][0]))
        fields = [place for place in places if place.width]
        assert fields
        # All of them, and then every third: the bits between must be kept free.
        for number, chosen in enumerate([fields, fields[::3], fields[1::3], fields[2::3]]):
            ordinary = {place.name for place in places[number::4] if not place.width}
            wanted = ordinary | {field.name for field in chosen}
            size = witness.size(witness.named[name][0])
            source = tmp_path / f"{name}{number}.c"
            text = vmlinux.declare([name], wanted) + witness.assertions(name, ordinary)
            source.write_text(bit_field_program(text, name, chosen, size))
            found[source] = chosen, size
    libraries = [str(source.with_suffix(".so")) for source in found]
    for source, library in zip(found, libraries):
        subprocess.run(
            ["gcc", "-w", "-O0", "-shared", "-fPIC", "-o", library, str(source)], check=True
        )
        fields, size = found[source]
        fill = ctypes.CDLL(library).fill
        for number, field in enumerate(fields):
            value = ctypes.create_string_buffer(size)
            fill(value, number)
            bits = int.from_bytes(value.raw, "little")
            assert bits == ((1 << field.width) - 1) << field.offset, (source.name, field)


@pytest.mark.host_only
@needs_btf
def test_enumerators_have_the_values_that_bpftool_sees(witness: Witness, vmlinux: Btf) -> None:
    values: dict[str, set[int]] = {}
    with_sign = any(item["kind"] == "ENUM64" for item in witness.types.values())
    for item in witness.types.values():
        if item["kind"] in ("ENUM", "ENUM64"):
            bits = 64 if item["kind"] == "ENUM64" else 32
            for value in item["values"]:
                number = value["val"] % (1 << bits)
                # A bpftool from before Linux v6.0 says nothing of the sign either.
                signed = not with_sign or item["encoding"] == "SIGNED"
                if signed and number >> (bits - 1):
                    number -= 1 << bits
                values.setdefault(value["name"], set()).add(number)
    read = vmlinux.enumerators(set(values))
    assert read.keys() == values.keys()
    wrong = {
        name: (number, values[name]) for name, number in read.items() if number not in values[name]
    }
    assert not wrong


@pytest.mark.rendering
@pytest.mark.parametrize("release", RECORDED)
def test_a_recorded_kernel_answers_for_its_renames(release: str) -> None:
    version = tuple(map(int, release.split(".")))
    recorded = capture.recorded(release)
    assert recorded.has_field("task_struct", "__state") == (version >= (5, 14))
    assert recorded.has_field("cfs_rq", "nr_queued") == (version >= (6, 14))
    assert recorded.has_field("cfs_rq", "nothing") is False
    assert recorded.has_field("nothing", "nr_running") is False
    arguments = recorded.btf.raw_tracepoint("sched_switch")
    assert arguments is not None and len(arguments) == (4 if version >= (5, 18) else 3)
    assert arguments[:2] == ["_Bool", "struct task_struct *"]


# Layouts that a compiler of the kernel may come up with, written by hand.

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, ENUM64 = 1, 2, 3, 4, 5, 6, 7, 8, 19


class Writer:
    """Writes a BTF image, a type at a time."""

    def __init__(self) -> None:
        self.strings = b"\0"
        self.types: list[bytes] = []

    def string(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text.encode()) - 1

    def add(
        self, kind: int, name: str, size: int, extra: bytes = b"", n: int = 0, flag: int = 0
    ) -> int:
        info = flag << 31 | kind << 24 | n
        self.types.append(struct.pack("=III", self.string(name), info, size) + extra)
        return len(self.types)

    def integer(self, name: str, size: int) -> int:
        return self.add(INT, name, size, struct.pack("=I", 8 * size))

    def composite(
        self, name: str, size: int, members: list[tuple[str, int, int, int]], kind: int = STRUCT
    ) -> int:
        """Members are (name, type, bit offset, width of a bit-field)."""
        flag = any(width for *_, width in members)
        extra = b"".join(
            struct.pack(
                "=III", self.string(label), type_id, width << 24 | offset if flag else offset
            )
            for label, type_id, offset, width in members
        )
        return self.add(kind, name, size, extra, len(members), flag)

    def dump(self) -> bytes:
        types = b"".join(self.types)
        head = struct.pack(
            "=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.strings)
        )
        return head + types + self.strings

    def btf(self) -> Btf:
        return Btf(self.dump())


@st.composite
def handwritten(draw: Any) -> tuple[Writer, list[Place], int, set[str]]:
    """A struct with members at any place, overlapping or not, and bit-fields."""
    writer = Writer()
    sizes = {writer.integer(f"unsigned {word}", size): size for word, size in
             [("char", 1), ("short", 2), ("int", 4), ("long", 8)]}  # fmt: skip
    inner = writer.composite("inner", 12, [("a", 4, 0, 0), ("b", 1, 80, 0)])
    packed = writer.composite("tight", 5, [("c", 1, 0, 0), ("d", 3, 8, 0)])
    sizes.update({inner: 12, packed: 5})
    array = writer.add(ARRAY, "", 0, struct.pack("=III", 2, 3, 3))
    sizes[array] = 6
    places = []
    for number in range(draw(st.integers(1, 7))):
        type_id = draw(st.sampled_from(sorted(sizes)))
        size = sizes[type_id]
        byte = draw(st.integers(0, 40))
        width, bit = 0, 0
        if type_id <= 4 and draw(st.booleans()):
            width = draw(st.integers(1, 8 * size - 1))
            bit = draw(st.integers(0, 8 * size - width))
            byte -= byte % size
        places.append(Place(f"m{number}", type_id, 8 * byte + bit, width))
    end = max(place.offset + (place.width or 8 * sizes[place.type_id]) for place in places)
    size = (end + 7) // 8 + draw(st.integers(0, 9))
    places.sort(key=lambda place: place.offset)
    writer.composite("outer", size, [tuple(place) for place in places])  # type: ignore[misc]
    wanted = {"a", "b", "c", "d"} | draw(st.sets(st.sampled_from([p.name for p in places])))
    return writer, [place for place in places if place.name in wanted], size, wanted


@pytest.mark.rendering
@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_any_layout_of_members_is_written_as_it_is(tmp_path: Path) -> None:
    """Several structs a compilation: each under a name of its own."""

    @hypothesis.given(st.lists(handwritten(), min_size=1, max_size=30))
    @hypothesis.settings(max_examples=12, phases=[hypothesis.Phase.generate])
    def check(structs: list[tuple[Writer, list[Place], int, set[str]]]) -> None:
        text = ""
        bit_fields = []
        for number, (writer, places, size, wanted) in enumerate(structs):
            one = writer.btf().declare(["outer"], wanted)
            one += f'_Static_assert(sizeof(struct outer) == {size}, "size");\n'
            for place in places:
                if not place.width:
                    one += (
                        f"_Static_assert(__builtin_offsetof(struct outer, {place.name}) =="
                        f' {place.offset // 8}, "{place.name}");\n'
                    )
                else:
                    bit_fields.append((number, place, size))
            text += re.sub(r"\b(outer|inner|tight)\b", rf"\g<1>{number}", one)
        text += "void fill(void *value, int n)\n{\n\tswitch (n) {\n"
        for n, (number, place, _) in enumerate(bit_fields):
            text += f"\tcase {n}: ((struct outer{number} *)value)->{place.name} = -1; break;\n"
        source, library = tmp_path / "x.c", tmp_path / f"{time.monotonic_ns()}.so"
        source.write_text(text + "\t}\n}\n")
        subprocess.run(
            ["gcc", "-w", "-O0", "-shared", "-fPIC", "-o", str(library), str(source)], check=True
        )
        fill = ctypes.CDLL(str(library)).fill
        for n, (_, place, size) in enumerate(bit_fields):
            value = ctypes.create_string_buffer(size + 16)
            fill(value, n)
            bits = int.from_bytes(value.raw, "little")
            assert bits == ((1 << place.width) - 1) << place.offset, place

    check()


@pytest.mark.rendering
def test_of_two_structs_of_one_name_each_pointer_leads_to_its_own() -> None:
    writer = Writer()
    integer = writer.integer("int", 4)
    first = writer.composite("node", 8, [("here", integer, 32, 0)])
    second = writer.composite("node", 16, [("other", integer, 96, 0)])
    pointer = writer.add(PTR, "", second)
    writer.composite(
        "top", 32, [("inside", first, 0, 0), ("also", second, 64, 0), ("far", pointer, 192, 0)]
    )
    text = writer.btf().declare(["top"], ["inside", "also", "far", "here", "other"])
    assert text.count("struct node {") == 1
    compiles(
        text
        + '_Static_assert(__builtin_offsetof(struct top, inside.here) == 4, "");\n'
        + '_Static_assert(__builtin_offsetof(struct top, also.other) == 20, "");\n'
        + '_Static_assert(__builtin_offsetof(struct top, far) == 24, "");\n'
        + '_Static_assert(sizeof(struct top) == 32, "");\n'
    )


@pytest.mark.rendering
def test_an_enumerator_is_signed_only_where_its_enum_is() -> None:
    def enum(flag: int, with_enum64: bool) -> Btf:
        writer = Writer()
        extra = struct.pack("=II", writer.string("ALL_ONES"), 0xFFFFFFFF)
        writer.add(ENUM, "e", 4, extra, 1, flag)
        if with_enum64:
            extra = struct.pack("=III", writer.string("WIDE"), 5, 0x80000000)
            writer.add(ENUM64, "w", 8, extra, 1)
        return writer.btf()

    assert enum(1, True).enumerators({"ALL_ONES"}) == {"ALL_ONES": -1}
    assert enum(0, True).enumerators({"ALL_ONES"}) == {"ALL_ONES": 0xFFFFFFFF}
    assert enum(0, True).enumerators({"WIDE"}) == {"WIDE": 0x8000000000000005}
    # Before Linux v6.0 nothing told the sign.
    assert enum(0, False).enumerators({"ALL_ONES"}) == {"ALL_ONES": -1}


@pytest.mark.rendering
def test_a_wide_enumerator_leaves_the_others_as_wide_as_they_are(tmp_path: Path) -> None:
    writer = Writer()
    extra = struct.pack("=III", writer.string("WIDE"), 5, 0x80000000)
    writer.add(ENUM64, "w", 8, extra, 1)
    extra = struct.pack("=IIII", writer.string("SMALL"), 7, writer.string("NEGATIVE"), 0xFFFFFFFF)
    writer.add(ENUM, "s", 4, extra, 2, 1)
    path = tmp_path / "vmlinux"
    path.write_bytes(writer.dump())
    checks = ["WIDE == 0x8000000000000005ULL", "SMALL == 7", "NEGATIVE == -1", "sizeof(SMALL) == 4"]
    text = "".join(f'_Static_assert({check}, "enum");\n' for check in checks)
    rendered = render(Unrendered(text + PROGRAM), Kernel("6.12", str(path)))
    with Compiler() as compiler:
        compiler.compile(rendered)


# The index, which is kept.


@pytest.mark.rendering
def test_a_kept_index_gives_the_same_answers() -> None:
    first = Btf(GOOD)
    second = Btf(GOOD, kept=lambda: first.index)
    assert second.index is first.index
    for kind in range(1, 20):
        assert second.names(kind) == first.names(kind)
    for type_id in second.names(STRUCT).values():
        assert second.members(type_id) == first.members(type_id)


@pytest.mark.rendering
@hypothesis.given(st.binary(max_size=200))
def test_the_index_of_something_else_is_not_used(noise: bytes) -> None:
    right = Btf(GOOD).index
    other = Btf((capture.FIXTURES / "kernels" / "5.10" / "vmlinux.btf").read_bytes()).index
    for index in (noise, other, right[:-1], right + b"1"):
        assert Btf(GOOD, kept=lambda: index).index == right


# Damage.


def everything(data: bytes) -> None:
    """Ask a BTF image whatever can be asked."""
    btf = Btf(data)
    names = ["task_struct", "rq", "tcp_sock", "cfs_rq", "pid", "cgroup", "dentry"]
    words = {"se", "cfs_rq", "rq", "inet_conn", "icsk_inet", "sk", "__sk_common", "skc_daddr"}
    words |= {"skc_addrpair", "nonagle", "comm", "numbers", "d_name", "name", "ns", "uid", "pid"}
    btf.declare(names, words, ["atomic_t", "kuid_t"])
    btf.enumerators({"TCP_SYN_RECV", "PERF_CONTEXT_KERNEL", "cpu_cgrp_id"})
    btf.raw_tracepoint("sched_switch")
    btf.function("nothing")
    btf.member("sock", "skc_daddr")


GOOD = (capture.FIXTURES / "kernels" / "6.12" / "vmlinux.btf").read_bytes()


@pytest.mark.rendering
@hypothesis.given(st.integers(0, len(GOOD) - 1))
def test_truncated_btf_is_refused(length: int) -> None:
    with pytest.raises(Failure, match="damaged type information"):
        everything(GOOD[:length])


@pytest.mark.rendering
@hypothesis.given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)), min_size=1, max_size=8)
)
@hypothesis.settings(max_examples=300)
def test_flipped_bytes_give_a_failure_or_an_answer(flips: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for position, mask in flips:
        data[position] ^= mask
    try:
        everything(bytes(data))
    except Failure:
        pass


@pytest.mark.rendering
@hypothesis.given(
    st.lists(
        st.tuples(st.integers(6, len(GOOD) // 4 - 1), st.integers(0, 300)), min_size=1, max_size=40
    )
)
@hypothesis.settings(max_examples=300)
def test_words_replaced_by_other_small_numbers_give_a_failure_or_an_answer(
    changes: list[tuple[int, int]]
) -> None:
    """Small numbers are type ids: cycles, self-reference, the wrong kinds."""
    data = bytearray(GOOD)
    for word, number in changes:
        struct.pack_into("=I", data, 4 * word, number)
    try:
        everything(bytes(data))
    except Failure:
        pass


@pytest.mark.rendering
@hypothesis.given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(Failure):
        Btf(data)
    with pytest.raises(Failure):
        Btf(GOOD[:24] + data)


@pytest.mark.rendering
def test_types_that_contain_themselves_are_refused_or_cut_short() -> None:
    writer = Writer()
    writer.composite("", 8, [("", 1, 0, 0)])
    writer.composite("outer", 8, [("x", 1, 0, 0), ("", 1, 0, 0)])
    with pytest.raises(Failure, match="contains itself"):
        writer.btf().declare(["outer"], ["x"])
    writer = Writer()
    writer.composite("outer", 8, [("x", 1, 0, 0)])
    writer.btf().declare(["outer"], ["x"])
    writer = Writer()
    writer.add(TYPEDEF, "loop_t", 1)
    with pytest.raises(Failure, match="refers to itself"):
        writer.btf().declare([], [], ["loop_t"])


@pytest.mark.rendering
def test_a_bomb_of_anonymous_members_ends_soon() -> None:
    """Each of 40 anonymous structs holds the next one twice: 2**40 members."""
    writer = Writer()
    for number in range(1, 40):
        writer.composite("", 8, [("", number + 1, 0, 0), ("", number + 1, 0, 0)])
    writer.composite("", 8, [("x", 0, 0, 0)])
    writer.composite("outer", 8, [("", 1, 0, 0)])
    with pytest.raises(Failure):
        writer.btf().declare(["outer"], ["x"])


@pytest.mark.rendering
def test_huge_array_sizes_stay_text() -> None:
    writer = Writer()
    writer.integer("int", 4)
    inner = 1
    for _ in range(20):
        inner = writer.add(ARRAY, "", 0, struct.pack("=III", inner, 1, 0xFFFFFFFF))
    writer.composite("outer", 8, [("x", inner, 0, 0)])
    assert len(writer.btf().declare(["outer"], ["x"])) < 10_000


@pytest.mark.rendering
def test_an_absent_or_unreadable_file_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot read the kernel's types"):
        Kernel("6.12", str(tmp_path / "none")).btf
    with pytest.raises(Failure, match="cannot read the kernel's types"):
        Kernel("6.12", str(tmp_path)).btf
