"""bt's parser: what a text means, what is wrong with it and where, and that it never hangs."""
from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytools.bt import tree
from pytools.bt.expand import expand
from pytools.bt.syntax.lexer import integer
from pytools.bt.parse import decode, parse
from pytools.bt.wrong import Wrong

pytestmark = [pytest.mark.rendering]


def body(text: str) -> tree.Block:
    """The block of a program of one probe."""
    (probe,) = parse(text).probes
    return probe.body


def value(text: str) -> Any:
    """The tree of an expression."""
    (statement,) = body("BEGIN { $x = " + text + "; }").statements
    return statement.value


def shape(node: Any) -> object:
    """An expression in one line, operators in front."""
    if isinstance(node, tree.Binary):
        return (node.operator, shape(node.left), shape(node.right))
    if isinstance(node, tree.Unary):
        return (node.operator, shape(node.operand))
    if isinstance(node, tree.Cast):
        return ("cast", node.type.name, node.type.pointers, shape(node.operand))
    if isinstance(node, tree.Ternary):
        return ("?", shape(node.condition), shape(node.then), shape(node.otherwise))
    if isinstance(node, tree.Member):
        return (".", shape(node.object), node.name)
    if isinstance(node, tree.Index):
        return ("[]", shape(node.object), shape(node.index))
    if isinstance(node, (tree.Number, tree.Text, tree.Boolean)):
        return node.value
    if isinstance(node, (tree.Name, tree.Variable, tree.Map)):
        return node.name
    if isinstance(node, tree.Call):
        return (node.name, *map(shape, node.arguments))
    if isinstance(node, tree.Tuple_):
        return ("tuple", *map(shape, node.elements))
    return node


@pytest.mark.parametrize(
    "text, expected",
    [
        ("1 + 2 * 3", ("+", 1, ("*", 2, 3))),
        ("1 - 2 - 3", ("-", ("-", 1, 2), 3)),
        ("1 | 2 ^ 3 & 4", ("|", 1, ("^", 2, ("&", 3, 4)))),
        ("1 & 2 == 3", ("&", 1, ("==", 2, 3))),
        ("1 == 2 < 3", ("==", 1, ("<", 2, 3))),
        ("1 < 2 << 3 + 4", ("<", 1, ("<<", 2, ("+", 3, 4)))),
        ("1 || 2 && 3", ("||", 1, ("&&", 2, 3))),
        ("!$a == $b", ("==", ("!", "a"), "b")),
        ("-$a * ~$b", ("*", ("-", "a"), ("~", "b"))),
        ("1 ? 2 : 3 ? 4 : 5", ("?", 1, 2, ("?", 3, 4, 5))),
        ("$a ?: 5", ("?", "a", "a", 5)),
        ("*$p.a", ("*", (".", "p", "a"))),
        ("$p->a.b[1].0", (".", ("[]", (".", (".", "p", "a"), "b"), 1), 0)),
        ("(uint8)$a + 1", ("+", ("cast", "uint8", 0, "a"), 1)),
        ("(struct task_struct *)$a", ("cast", "struct task_struct", 1, "a")),
        ("((struct x *)$a)->b", (".", ("cast", "struct x", 1, "a"), "b")),
        ("(struct x *)$a->b", ("cast", "struct x", 1, (".", "a", "b"))),
        ("(unsigned long)$a", ("cast", "unsigned long", 0, "a")),
        ("(myident)*$a", ("cast", "myident", 0, ("*", "a"))),
        ("(pid)*tid", ("*", "pid", "tid")),
        ("(comm)", "comm"),
        ("(pid) - 1", ("-", "pid", 1)),
        ("(size * 2)", ("*", "size", 2)),
        ("(1, (2,), ())", ("tuple", 1, ("tuple", 2), ("tuple",))),
        ('"a" "b\\n" "\\x41\\101"', "ab\nAA"),
        ("str(arg0, 5)", ("str", "arg0", 5)),
        ("old!(1)", ("old", 1)),
    ],
)
def test_expressions(text: str, expected: object) -> None:
    assert shape(value(text)) == expected


@pytest.mark.parametrize(
    "word, expected",
    [
        ("0", (0, "")),
        ("0x1F", (31, "")),
        ("0b101", (5, "")),
        ("017", (15, "")),
        ("0o17", (15, "")),
        ("1_000_000", (10**6, "")),
        ("1e6", (10**6, "")),
        ("5ms", (5 * 10**6, "")),
        ("1m", (60 * 10**9, "")),
        ("2d", (2 * 86400 * 10**9, "")),
        ("123UL", (123, "ul")),
        ("18446744073709551615", (2**64 - 1, "")),
    ],
)
def test_integers(word: str, expected: object) -> None:
    assert integer(word) == expected


@pytest.mark.parametrize(
    "word, message",
    [
        ("1" * 100, "overflow error, maximum value is 18446744073709551615: 1111"),
        ("1e99999999999", "overflow error"),
        ("300000d", "overflow error"),
        ("5qs", "invalid integer suffix 'qs'"),
        ("1_", "trailing underscore in integer literal"),
        ("089", "invalid integer: 089"),
        ("0x", "invalid integer"),
    ],
)
def test_wrong_integers(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        integer(word)
    with pytest.raises(Wrong, match=message):
        parse("BEGIN { print(" + word + "); }")


def test_both_dialects_are_one_tree() -> None:
    old = parse("BEGIN { $a = args->x; if ($a) { exit() } } kfunc:f, k:g /pid/ { @[comm]++ }")
    new = parse("begin { $a = args.x; if $a { exit(); } } fentry:f, kprobe:g /pid/ { @[comm]++; }")
    kinds = [[point.kind for point in probe.points] for probe in old.probes]
    assert kinds == [[point.kind for point in probe.points] for probe in new.probes]
    assert kinds == [["begin"], ["fentry", "kprobe"]]
    assert [len(probe.body.statements) for probe in old.probes] == [2, 1]
    assert old.probes[1].predicate is not None


@pytest.mark.parametrize(
    "text, kind, fields",
    [
        ("uprobe:/bin/bash:readline", "uprobe", ["/bin/bash", "readline"]),
        ("u:./a.out:0x1234", "uprobe", ["./a.out", "0x1234"]),
        ('uprobe:./a.out:"name with space, {"', "uprobe", ["./a.out", "name with space, {"]),
        ('uprobe:/bin/x:cpp:"f(int, \\"a\\")"', "uprobe", ["/bin/x", "cpp", 'f(int, "a")']),
        ("U:libc:probe*", "usdt", ["libc", "probe*"]),
        (r'U:./a.out:test:"\"probe1\""', "usdt", ["./a.out", "test", '"probe1"']),
        ("profile:99", "profile", ["99"]),
        ("i:1s", "interval", ["1s"]),
        ("kretfunc:vmlinux:vfs_*", "fexit", ["vmlinux", "vfs_*"]),
        ("name=kprobe:f+0x10", "kprobe", ["f+0x10"]),
        ("END", "end", []),
        ("self:signal:SIGUSR1", "self", ["signal", "SIGUSR1"]),
        ("k:$1", "kprobe", ["$1"]),
    ],
)
def test_attach_points(text: str, kind: str, fields: object) -> None:
    for program in (f"{text} {{ }}", f"BEGIN, {text} /1/ {{ }}", f"{text}\n// comment\n{{ }}"):
        point = parse(program).probes[-1].points[-1]
        assert (point.kind, list(point.fields)) == (kind, fields)


def test_a_predicate_is_no_division() -> None:
    (probe,) = parse("kprobe:f /arg0 / 2 == (4 / 2)/ { exit() }").probes
    assert shape(probe.predicate) == ("==", ("/", "arg0", 2), ("/", 4, 2))
    (probe,) = parse("kprobe:f/pid/{}").probes
    assert shape(probe.predicate) == "pid"


def test_blocks_have_values() -> None:
    block = value("{ let $y = 1; $y + 1 }")
    assert isinstance(block, tree.Block) and len(block.statements) == 1
    assert shape(block.value) == ("+", "y", 1)
    chosen = value("if 1 { 2 } else if 3 { 4 } else { 5 }")
    assert isinstance(chosen, tree.IfValue) and isinstance(chosen.otherwise, tree.IfValue)
    macro = parse("macro m(x) { if x { 1 } else { 2 } }").macros[0]
    assert isinstance(macro.body.value, tree.IfValue)
    (statement,) = body("BEGIN { if (1) { 2 } else { 3 } }").statements
    assert isinstance(statement, tree.If) and statement.then.value is None


def test_statements() -> None:
    statements = body(
        """BEGIN {
            let $a : uint64 = 5; let $b; $a <<= 2; @m[1, "x"] = (1, 2); @++; --@c; _ = f();
            for $i : 0..ncpus { continue; } for ($kv : @m) { break } unroll(5) { } unroll $1 { }
            while ($a < 5) { $a++ } if $a == 1 { return } else { return 5; } { print(1) }
        }"""
    ).statements
    names = [type(statement).__name__ for statement in statements]
    assert (
        names
        == (
            "Let Let Assign Assign Evaluate Evaluate Assign ForRange ForMap Unroll Unroll While If "
            "Evaluate"
        ).split()
    )


def test_definitions_of_c() -> None:
    program = parse(
        """#include <linux/sched.h>
        #define WORDS (2 + 2)
        #define NOT_USED(x) x
        #ifndef BPFTRACE_HAVE_BTF
        struct "{
        #elif defined(WORDS) && WORDS == 4
        enum { A, B = 1 << 3, C };
        #else
        #error no
        #endif
        typedef unsigned long word_t;
        struct s {
            const char *name; int a[WORDS][2], *b; word_t w:3, :2; unsigned x
        } __attribute__((packed));
        struct t { union { int i; struct s s; }; struct { int q; } in[3]; void (*f)(int, char); };
        BEGIN { print(WORDS * 2); }"""
    )
    types: Any = program.types
    enum, typedef, s, t = types
    assert enum.values == (("A", 0), ("B", 8), ("C", 9))
    assert (typedef.name, typedef.type.name) == ("word_t", "unsigned long")
    assert s.packed and [member.name for member in s.members] == ["name", "a", "b", "w", "", "x"]
    name, a, b, w, padding, x = (member.type for member in s.members)
    assert (name.name, name.pointers, a.sizes, b.pointers) == ("char", 1, (4, 2), 1)
    assert (s.members[3].bits, s.members[4].bits, x.name) == (3, 2, "unsigned int")
    members: Any = t.members
    anonymous, inner, function = members
    assert anonymous.record.word == "union" and anonymous.type is None
    assert (inner.name, inner.type.sizes) == ("in", (3,))
    assert (function.type.name, function.type.pointers) == ("void", 1)
    (statement,) = program.probes[0].body.statements
    assert shape(statement.expression) == ("print", ("*", ("+", 2, 2), 2))


def test_root_declarations() -> None:
    program = parse(
        """#!/usr/bin/env bt
        config = { stack_mode=perf; max_map_keys = 5; print_maps_on_exit=false }
        import "lib.bt";
        let @m = lruhash(100);
        macro add($a, @b, c) { $a + c }
        macro old { print(1) }
        fn f($a : uint8, $b : struct x *) : void { return; }
        begin { }"""
    )
    assert [(name, set_to) for _, name, set_to in program.config] == [
        ("stack_mode", "perf"),
        ("max_map_keys", 5),
        ("print_maps_on_exit", False),
    ]
    assert [program.text[first:end] for (first, end), _, _ in program.config] == [
        "stack_mode=perf",
        "max_map_keys = 5",
        "print_maps_on_exit=false",
    ]
    assert program.imports[0].value == "lib.bt"
    assert program.maps[0].kind == "lruhash"
    assert [len(macro.parameters) for macro in program.macros] == [3, 0]
    assert program.subprograms[0].parameters[1][1].name == "struct x"


@pytest.mark.parametrize(
    "text, report",
    [
        (
            "BEGIN {\n\tprint(1 +);\n}",
            "stdin:2:11-12: ERROR: syntax: expected expression\n    print(1 +);\n             ~",
        ),
        (
            "kprobes:f { }",
            "stdin:1:1-10: ERROR: Invalid probe type: kprobes\nkprobes:f { }\n~~~~~~~~~\n"
            "HINT: did you mean kprobe or uprobe?",
        ),
        (
            "BEGIN { $x = 1 print($x); }",
            "stdin:1:16-21: ERROR: syntax: expected ';'\n"
            "BEGIN { $x = 1 print($x); }\n               ~~~~~",
        ),
        (
            "BEGIN { whlie (1) { } }",
            "stdin:1:19-20: ERROR: syntax: expected ';'\nBEGIN { whlie (1) { } }\n"
            "                  ~\nHINT: did you mean while?",
        ),
        (
            'BEGIN { printf("a); }',
            'stdin:1:16-17: ERROR: syntax: unterminated string\nBEGIN { printf("a); }\n'
            "               ~",
        ),
        (
            "BEG\x08N { }",
            "stdin:1:1-6: ERROR: Invalid probe type: BEG\\x08N\nBEG?N { }\n~~~~~\n"
            "HINT: did you mean begin or bench?",
        ),
        (
            "BEGIN { $x.0 = 1; }",
            "stdin:1:9-13: ERROR: syntax: Tuples and records are immutable once created. "
            "Consider creating a new value and assigning it instead.\n"
            "BEGIN { $x.0 = 1; }\n        ~~~~",
        ),
    ],
)
def test_errors_say_where_and_what(text: str, report: str) -> None:
    with pytest.raises(Wrong) as caught:
        parse(text)
    assert caught.value.report(text, "stdin") == report


def test_a_message_has_one_line_whatever_words_of_the_program_are_in_it() -> None:
    assert Wrong(None, "a\nb\x1b[1m", "c\x1b[1m\nd").report("", "") == (
        "ERROR: a\\x0ab\\x1b[1m\nHINT: c\\x1b[1m\nd"
    )
    assert len(Wrong(None, "record(" + "a=int8," * 1000).report("", "")) < 420


@pytest.mark.parametrize(
    "text, message",
    [
        ("BEGIN { print(" + "(" * 10000 + ")" * 10000 + "); }", "nested more than"),
        ("BEGIN {" * 1 + "{" * 10000, "nested more than"),
        ("BEGIN { $x = " + "!" * 10000 + "1; }", "nested more than"),
        ("BEGIN { $x = " + "1 ? " * 10000, "nested more than"),
        ("BEGIN { if (1) {} " + "else if (1) {} " * 10000 + "}", "nested more than"),
        ("BEGIN { $x = " + "+".join("1" * 10000) + "; }", "operators, one upon the other"),
        ("BEGIN { $x = $a" + ".b" * 10000 + "; }", "operators, one upon the other"),
        ("BEGIN { $x = " + "(typeof(" * 10000, "nested more than"),
        ("BEGIN { $x = " + "(a[" * 10000, "nested more than"),
        ("struct a { " * 10000, "nested more than"),
        ("/* " * 100000, "unterminated comment"),
        ("/* a */ " * 10000 + "\x01", "Invalid probe type"),
        ("k:" + '"' * 100000, "attach point of more than"),
        ("#if 1\n" * 1000, "unterminated conditional"),
        ("BEGIN { }" + " " * (1 << 20), "larger than 1 MiB"),
        ("BEGIN { \0 }", "a NUL character"),
        (
            "".join(f"#define A{i} A{i + 1} + A{i + 1}\n" for i in range(40)) + "BEGIN{print(A0)}",
            "used more than",
        ),
    ],
    ids=lambda text: str(text)[:20],
)
def test_limits(text: str, message: str) -> None:
    with pytest.raises(Wrong, match=message) as caught:
        parse(text)
    assert len(caught.value.report(text, "stdin").splitlines()) <= 4


def test_a_file_that_is_no_program() -> None:
    assert decode('BEGIN { print("ä") }'.encode(), "x.bt") == 'BEGIN { print("ä") }'
    for data in (b"\x7fELF\x02\x01\x01\0\0", b'BEGIN { print("\xff") }', b"a\n\0"):
        with pytest.raises(Wrong, match="x.bt is not a program: line [12]"):
            decode(data, "x.bt")


def test_bytes_of_escapes() -> None:
    text = value('"\\xc3\\xa4ä\\377"')
    assert isinstance(text, tree.Text)
    assert text.value.encode("utf-8", "surrogateescape") == b"\xc3\xa4\xc3\xa4\xff"


def test_places_in_other_files() -> None:
    text = 'import "a";\nBEGIN { }\nmacro m() {\n 1 }'
    program = parse(text)._replace(name="main.bt", files=((22, "a.bt"),))
    value_of_macro: Any = program.macros[0].body.value
    assert program.place((12, 17)) == "main.bt:2:1-6"
    assert program.place(value_of_macro.at) == "a.bt:2:2-3"


WORDS = (
    "BEGIN kprobe:f uprobe:/a:b { } ( ) [ ] ; , . .. -> = == + ++ - * / & && ? : ! ~ < << "
    '$x $1 $# @ @m _ 1 0x 5ms 1e9 "s" " \\ if else for while unroll let return break macro fn '
    "config import struct x union enum typedef typeof( sizeof( offsetof( int string comm // /* */ "
    "#if #endif #define"
).split() + ["\n", "\n#if 1\n", "\n#endif\n", "\n#define A B\n", "(struct x *)", "BEGIN {"]


@given(st.lists(st.sampled_from(WORDS), max_size=60))
def test_token_soup_is_a_tree_or_wrong(pieces: list[str]) -> None:
    text = " ".join(pieces)
    for program in (text, "BEGIN { " + text, "BEGIN { $x = " + text + "; }"):
        try:
            made = expand(parse(program), ["a"], ["--x=1"])
        except Wrong as wrong:
            assert "ERROR: " in wrong.report(program, "stdin")
        else:
            assert made.probes


def test_python_can_go_as_deep_as_a_tree() -> None:
    parse("BEGIN { $x = " + "+".join("1" * 900) + "; }")
    assert sys.getrecursionlimit() >= 5000
