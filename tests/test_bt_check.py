"""What bt says of programs that are wrong, and the types that it finds."""
from __future__ import annotations

import os

import pytest

from pytools.bt.check import check
from pytools.bt.checker import Checked
from pytools.bt.compiled import Options, compile_program
from pytools.bt.config import config_of
from pytools.bt.expand import expand
from pytools.bt.parse import parse
from pytools.bt.types import Struct
from pytools.bt.wrong import Wrong
from pytools.facts import kernel

pytestmark = pytest.mark.host_only


@pytest.fixture(scope="module")
def running() -> kernel.Kernel:
    found = kernel.running()
    if not found.has_btf:
        pytest.skip("without BTF nothing is checked")
    return found


def checked(text: str, running: kernel.Kernel) -> Checked:
    program = expand(parse(text))
    return check(program, running, Options(config=config_of(program, {})))


def wrong(text: str, running: kernel.Kernel) -> tuple[str, str, str]:
    """(what is wrong, the hint, the text that is marked) of a program."""
    with pytest.raises(Wrong) as info:
        compile_program(expand(parse(text)), running)
    at = info.value.at
    return info.value.message, info.value.hint, text[at[0] : at[1]] if at else ""


ERRORS: dict[str, tuple[str, str | None]] = {
    # Names.
    "BEGIN { print($x); }": ("Undefined or undeclared variable: $x", "$x"),
    "BEGIN { print(@x); }": ("Undefined map: @x", "@x"),
    "BEGIN { print(foo); }": ("Unknown identifier: 'foo'", "foo"),
    "BEGIN { foo(1); }": ("Unknown function: 'foo'", "foo(1)"),
    "BEGIN { let $x = 1; let $x = 2; }": (
        "Variable $x was already declared. Variable shadowing is not allowed.",
        "let $x = 2",
    ),
    # Types.
    'BEGIN { $x = 1; $x = "a"; }': (
        "Type mismatch for $x: trying to assign value of type 'string[2]' when variable already "
        "has a type 'int8'",
        '$x = "a"',
    ),
    'BEGIN { @x = 1; @x = "a"; }': (
        "Type mismatch for @x: trying to assign value of type 'string[2]' when map already has a "
        "type 'int8'",
        '@x = "a"',
    ),
    'BEGIN { @x[1] = 1; @x["a"] = 1; }': (
        "Argument mismatch for @x: trying to access with arguments: 'string[2]' when map expects "
        "arguments: 'int8'",
        '@x["a"]',
    ),
    "BEGIN { @x = 1; @x[1] = 1; }": (
        "@x used as a map with an explicit key (non-scalar map), previously used without an "
        "explicit key (scalar map)",
        "@x[1]",
    ),
    "BEGIN { @x = count(); @x = 1; }": (
        "Type mismatch for @x: trying to assign value of type 'int8' when map already has a type "
        "'count_t'",
        "@x = 1",
    ),
    "BEGIN { $x = count(); }": (
        "Value 'count_t' cannot be assigned to a scratch variable.",
        "$x = count()",
    ),
    "BEGIN { count(); }": ("count() must be assigned directly to a map", "count()"),
    'BEGIN { print(1 + "a"); }': (
        "The + operator can not be used on expressions of types int8, string[2]",
        '1 + "a"',
    ),
    'BEGIN { print(1 ? 1 : "a"); }': (
        "Branches must return the same type or compatible types: have 'int8' and 'string[2]'",
        '1 ? 1 : "a"',
    ),
    "BEGIN { let $x: uint16 = -1; }": (
        "Type mismatch: the literal -1 does not fit into uint16",
        "let $x: uint16 = -1",
    ),
    "BEGIN { print((struct task_struct)1); }": (
        'Cannot cast from "int8" to "struct task_struct"',
        "(struct task_struct)1",
    ),
    "BEGIN { $t = (1, 2); print($t.2); }": (
        "Invalid tuple index: 2. Found 2 elements in the tuple.",
        "$t.2",
    ),
    "BEGIN { print(*1 + *$x); }": ("Undefined or undeclared variable: $x", "$x"),
    # Structs.
    "BEGIN { print(((struct foo *)0).bar); }": ("Unknown struct/union: 'struct foo'", None),
    "struct a { struct a b; } BEGIN { print(sizeof(struct a)); }": (
        "struct a contains itself",
        None,
    ),
    # Functions.
    "BEGIN { print(nsecs(1)); }": ("nsecs() takes one of monotonic, boot, tai, sw_tai here", "1"),
    "BEGIN { @ = hist(1, 9); }": ("hist() bits must be 0..5 (9 provided)", "hist(1, 9)"),
    "BEGIN { @ = lhist(1, 10, 0, 1); }": (
        "lhist() min must be less than max (provided min 10 and max 0)",
        "lhist(1, 10, 0, 1)",
    ),
    "BEGIN { @ = lhist(1, 0, 10000, 1); }": (
        "lhist() too many buckets, must be <= 1000 (would need 10000)",
        "lhist(1, 0, 10000, 1)",
    ),
    "BEGIN { exit(1, 2); }": ("exit() takes 0 to 1 arguments (2 given)", "exit(1, 2)"),
    'BEGIN { system("ls"); }': (
        "system() is an unsafe function being used in safe mode",
        'system("ls")',
    ),
    "BEGIN { print(retval); }": (
        "The retval builtin can only be used with 'kretprobe' and 'uretprobe' and 'fexit' probes "
        "(begin used here)",
        "retval",
    ),
    "BEGIN { print(arg0); }": (
        "The arg0 builtin can only be used with 'kprobes', 'uprobes', 'rawtracepoints' and 'usdt' "
        "probes",
        "arg0",
    ),
    "BEGIN { @x = 1; delete(@x, 1); }": (
        "call to delete() expects a map with explicit keys (non-scalar map)",
        "delete(@x, 1)",
    ),
    # Formats.
    'BEGIN { printf("%d"); }': (
        "printf: Not enough arguments for format string (0 supplied, 1 expected)",
        'printf("%d")',
    ),
    'BEGIN { printf("", 1); }': (
        "printf: Too many arguments for format string (1 supplied, 0 expected)",
        'printf("", 1)',
    ),
    'BEGIN { printf("%n", 1); }': (
        "printf: Unknown format string token: %n",
        'printf("%n", 1)',
    ),
    'BEGIN { printf("%s", 1); }': (
        "printf: %s specifier expects a value of type string (int8 supplied)",
        "1",
    ),
    'BEGIN { printf("%d", "a"); }': (
        "printf: %d specifier expects a value of type integer (string[2] supplied)",
        '"a"',
    ),
    # Statements.
    "BEGIN { break; }": ("Can not use break outside of a loop", "break"),
    "BEGIN { unroll(101) { } }": ("unroll maximum value is 100", None),
    "BEGIN { unroll(0) { } }": ("unroll minimum value is 1", None),
    # The config block, and maps.
    "config = { max_strln = 1 } BEGIN { }": (
        "max_strln: not a known configuration option",
        "max_strln = 1",
    ),
    "let @a = tree(1); BEGIN { @a[1] = 1; }": ("Invalid bpf map type: tree", None),
}


@pytest.mark.parametrize("text", ERRORS)
def test_says_what_is_wrong_and_where(text: str, running: kernel.Kernel) -> None:
    message, marked = ERRORS[text]
    said, _, where = wrong(text, running)
    assert said == message
    if marked is not None:
        assert where == marked


def test_names_the_nearest_member(running: kernel.Kernel) -> None:
    said, _, where = wrong("BEGIN { print(curtask.pdi); }", running)
    assert said == "struct task_struct has no member pdi on this kernel; did you mean pid?"
    assert where == "curtask.pdi"


def test_names_the_nearest_function(running: kernel.Kernel) -> None:
    assert wrong("BEGIN { pritnf(1); }", running)[1] == "did you mean printf()?"
    assert wrong("BEGIN { print(nsec); }", running)[1] == "did you mean nsecs?"


def test_reads_a_renamed_member_and_says_so(running: kernel.Kernel) -> None:
    if not running.has_field("task_struct", "__state"):
        pytest.skip("the member has its old name")
    found = checked("BEGIN { print(curtask.state); }", running)
    ((_, said),) = found.warnings
    assert said == (
        "struct task_struct has no member state on this kernel: __state is read, which it is "
        "called since Linux v5.14 (2f064a59a11f)"
    )


TYPES = {
    "@a = 1;": "int8",
    "@a = 1; @a = 300;": "int16",
    "@a = 1; @a = (uint64)2;": "uint64",
    "@a = (uint32)1; @a = -1;": "int64",
    "@a = (uint8)1; @a = (int16)2;": "int16",
    "@a = 9223372036854775808;": "uint64",
    "@a = pid;": "uint32",
    "@a = 1 == 2;": "bool",
    '@a = "a"; @a = "abc";': "string[4]",
    '@a = (1, "a"); @a = (1000, "abcd");': "(int16,string[5])",
    "@a = (uint32)1 + (uint32)1;": "uint64",
    "@a = (uint64)1 - (uint64)2;": "int64",
    "$x = (uint8)1; $x++; @a = $x;": "uint64",
    "$x = 1; if (1) { $x = (uint32)7; } @a = $x;": "uint32",
    "@a = curtask;": "struct task_struct *",
    "@a = curtask.comm;": "string[16]",
    "@a = nsecs;": "uint64",
    "@b = @a; @a = (int32)5;": "int32",
    "@a = (a=1, b=2);": "record(a=int8,b=int8)",
}


@pytest.mark.parametrize("body", TYPES)
def test_finds_the_type_of_a_map(body: str, running: kernel.Kernel) -> None:
    found = checked(f"BEGIN {{ {body} }}", running)
    assert str(found.facts.maps["a"].value) == TYPES[body]


LAYOUTS: dict[str, tuple[int, dict[str, int]]] = {
    "struct s { char a; long b; };": (16, {"a": 0, "b": 64}),
    "struct s { char a; long b; } __attribute__((packed));": (9, {"a": 0, "b": 8}),
    "struct s { int a : 3; int b : 30; char c; };": (12, {"a": 0, "b": 32, "c": 64}),
    "struct s { short a; union { int b; char c; }; struct { char d; } e; };": (
        12,
        {"a": 0, "b": 32, "c": 32, "e": 64},
    ),
    "struct s { int *p[3]; char n[5]; uint16_t x; };": (32, {"p": 0, "n": 192, "x": 240}),
    "struct s { float a; double b; };": (16, {"a": 0, "b": 64}),
    "union s { int a; long b; char c[12]; };": (16, {"a": 0, "b": 0, "c": 0}),
}


@pytest.mark.parametrize("definition", LAYOUTS)
def test_lays_out_structs_as_c_does(definition: str, running: kernel.Kernel) -> None:
    word = definition.split()[0]
    found = checked(f"{definition} BEGIN {{ @a = sizeof({word} s); }}", running)
    size, offsets = LAYOUTS[definition]
    kind = found.layouts.named(f"{word} s", None)
    assert isinstance(kind, Struct)
    assert kind.size == size
    fields = found.layouts.layout(kind).fields
    assert {name: field.offset for name, field in fields.items()} == offsets


def test_variables_used_behind_their_block_belong_to_the_action(running: kernel.Kernel) -> None:
    found = checked("BEGIN { if (1) { $x = 1; } else { $x = 1000; } @a = $x; }", running)
    assert str(found.facts.maps["a"].value) == "int16"


def test_no_text_of_the_user_reaches_c(running: kernel.Kernel) -> None:
    marks = ["zqx_variable", "zqx_map", "zqx_text", "zqx_struct", "zqx_member", "zqx_path"]
    text = (
        "struct zqx_struct { int zqx_member; } BEGIN { $zqx_variable = 5; "
        '@zqx_map["zqx_text"] = $zqx_variable; printf("zqx_text %d\\n", $zqx_variable); '
        "print(((struct zqx_struct *)0).zqx_member); } "
        "uprobe:/tmp/zqx_path:zqx_text { print(str(arg0)); }"
    )
    compiled = compile_program(expand(parse(text)), running)
    # A map's name is one of C's words with a prefix of ours.
    for mark in marks:
        assert mark not in compiled.rendered.text.replace("map0_zqx_map", "")
    assert os.path.exists("/proc")


def test_an_expression_may_be_long(running: kernel.Kernel) -> None:
    text = "BEGIN { @a = " + " + ".join(["1"] * 900) + "; @b = " + "(" * 60 + "1" + ")" * 60 + "; }"
    found = checked(text, running)
    assert str(found.facts.maps["a"].value) == "int16"
