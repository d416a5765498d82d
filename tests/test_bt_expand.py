"""What bt takes out of a tree: macros, imports, parameters in attach points, options."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytools.bt import tree
from pytools.bt.expand import expand
from pytools.bt.kinds import attach_point
from pytools.bt.parse import parse
from pytools.bt.points import point
from pytools.bt.wrong import Wrong

pytestmark = [pytest.mark.rendering]


def expanded(text: str, *words: str, parameters: tuple[str, ...] = ()) -> tree.Program:
    return expand(parse(text), parameters, words)


def statements(text: str, *words: str) -> Any:
    return expanded(text, *words).probes[-1].body.statements


def wrong(text: str, *words: str) -> str:
    with pytest.raises(Wrong) as caught:
        expanded(text, *words)
    return caught.value.report(text, "stdin")


def names(node: Any) -> list[str]:
    """The names of all variables and maps in a tree, in order."""
    if isinstance(node, (tree.Variable, tree.Map, tree.Element)):
        own = [node.name]
    else:
        own = [node.variable] if hasattr(node, "variable") else []
    if isinstance(node, tuple):
        for child in node:
            own += names(child)
    return own


# Macros.


def test_a_macro_changes_the_variable_and_the_map_that_it_is_given() -> None:
    text = "macro m($x, @y) { $x += 1; @y[1] = $x; $x } BEGIN { $a = 1; $b = m($a, @c); }"
    first, second = statements(text)
    block = second.value
    assert isinstance(block, tree.Block)
    assert names(block) == ["a", "c", "a", "a"]
    assert block.at == (text.index("m($a"), text.index("; }", 60))


def test_a_macros_own_variables_are_its_own_in_each_use() -> None:
    text = "macro m(x) { $y = x + 1; let $z; for $i : 0..1 { } $y } BEGIN { $y = m(1) + m(2); }"
    (statement,) = statements(text)
    left, right = names(statement.value.left), names(statement.value.right)
    assert len(set(left)) == len(set(right)) == 3
    assert not {*left, "y"} & set(right) and "y" not in left


def test_an_argument_keeps_the_callers_names() -> None:
    text = "macro m(x) { $y = x; $y } BEGIN { $y = 1; print(m($y + @a)); }"
    block = statements(text)[1].expression.arguments[0]
    assert names(block.statements[0].value) == ["y", "a"]


def test_a_variable_for_an_expression_is_copied() -> None:
    (statement,) = statements("macro m(x) { x } BEGIN { print(m($y)); }")[:1]
    inner = statement.expression.arguments[0].value
    assert isinstance(inner, tree.Block) and names(inner) == ["y"]


def test_macros_use_macros_and_arguments_use_macros() -> None:
    text = "macro a(x) { x + 1 } macro b(y) { y + a(y) } BEGIN { print(b(a(1))); }"
    (statement,) = statements(text)
    assert "a" not in repr([n for n in [statement] if isinstance(n, tree.Call)])
    assert "Call(" not in repr(statement.expression.arguments)


def test_a_bare_name_is_a_macro_without_parameters() -> None:
    (statement,) = statements(
        "macro one() { 1 } macro m(one) { one } BEGIN { print((one, m(2))); }"
    )
    first, second = statement.expression.arguments[0].elements
    assert (first.value, second.value) == (1, 2)


def test_types_are_arguments() -> None:
    text = (
        "macro m(a, b) { sizeof(a[2]) + sizeof(b*) + sizeof(b) + (int64)(b*)-1 + offsetof(b, c) } "
        "macro o(t, f) { offsetof(t, f) } macro s(n) { (struct n *)0 } "
        "BEGIN { print(m(typeof(uint64*), typeof(struct Foo))); "
        "print(o(typeof(struct x), a.b)); print(s(y)); print(m(typeof(uint8), typeof(x))); }"
    )
    first, second, third, _ = statements(text)
    sizes = first.expression.arguments[0].value.left.left
    assert sizes.left.left.of[1:] == ("uint64", 1, (2,), None)
    assert sizes.left.right.of[1:] == ("struct Foo", 1, (), None)
    shown = repr(first)
    assert "name='a'" not in shown and "name='b'" not in shown
    assert second.expression.arguments[0].value.path == ("a", "b")
    assert third.expression.arguments[0].value.type.name == "struct y"


def test_the_users_macro_wins_and_another_number_of_arguments_is_the_builtin() -> None:
    (statement,) = statements('macro cpu() { "hi" } BEGIN { print(cpu()); }')
    assert statement.expression.arguments[0].value == "hi"
    (statement,) = statements("macro cpu(x) { x } BEGIN { print(cpu); }")
    assert isinstance(statement.expression.arguments[0], tree.Name)
    (statement,) = statements("macro cpu() { 1 } BEGIN { print(__builtin_cpu); }")
    assert statement.expression.arguments[0].name == "cpu"


@pytest.mark.parametrize(
    "text, message",
    [
        ("macro m() { @x++ } BEGIN { m(); }", "1:13-15: ERROR: Unhygienic access to map: @x."),
        ("macro m($x) { $x } BEGIN { m(@y); }", "expects a variable for arg $x but got a map."),
        ("macro m(@x) { 1 } BEGIN { m(1); }", "expects a map for arg @x but got an expression."),
        ("macro m(x) { 1 } BEGIN { m(); }", "Expected: 1 but got 0"),
        ("macro m() { m() } BEGIN { m(); }", "Call chain: m > m"),
        ("macro a() { b() } macro b() { a() } BEGIN { a(); }", "Call chain: a > b > a"),
        ("macro m(x) { 1 } macro m(y) { 2 } BEGIN { }", "Redefinition of macro: m"),
        ("macro m($x, $x) { 1 } BEGIN { }", "has already been used: $x"),
        ("macro m($x) { let $x = 1; } BEGIN { m($y); }", "shadows macro arg $x"),
        ("macro m(t) { sizeof(struct t) } BEGIN { m(typeof(struct b)); }", "Invalid replacement"),
        (
            "".join(f"macro m{i}() {{ m{i + 1}() + m{i + 1}() }} " for i in range(40))
            + "macro m40() { 1 } BEGIN { m0(); }",
            "macros are used more than 10000 times",
        ),
        (
            "".join(f"macro m{i}() {{ m{i + 1}() }} " for i in range(200))
            + "macro m200() { 1 } BEGIN { m0(); }",
            "macros that call each other more than 100 deep",
        ),
        (
            "".join(f"macro m{i}() {{ m{i + 1}(){' + 1' * 900} }} " for i in range(90))
            + "macro m90() { 1 } BEGIN { m0(); }",
            "macros that call each other are too deep",
        ),
        ("macro m(x) { x } ", "ERROR: No probes to attach"),
    ],
    ids=lambda text: str(text)[:20],
)
def test_wrong_macros(text: str, message: str) -> None:
    assert message in wrong(text)


def test_the_standard_library() -> None:
    text = 'BEGIN { assert(1 == 1, "no"); print(ppid); print(ppid(curtask)); }'
    program = expanded(text)
    check, own, of_task = program.probes[0].body.statements
    (condition,) = check.expression.statements
    failing = condition.then.statements[0]
    assert program.place(failing.expression.at) == "stdlib/base.bt:6:5-37"
    assert program.place(own.at).startswith("stdin:1:31-")
    for printed in (own, of_task):
        assert printed.expression.arguments[0].value.name == "pid"
    assert expanded("BEGIN { print(1); }").files == ((0, "stdin"),)


# Parameters and options.


def test_parameters_in_attach_points() -> None:
    text = 'k:$1,uprobe:/bin/x:$2,BEG$3, u:"$1":f { print($1); }'
    (probe,) = expanded(text, parameters=("vfs_read", "a:b", "IN")).probes
    assert [(each.kind, list(each.fields)) for each in probe.points] == [
        ("kprobe", ["vfs_read"]),
        ("uprobe", ["/bin/x", "a", "b"]),
        ("begin", []),
        ("uprobe", ["$1", "f"]),
    ]
    assert isinstance(probe.body.statements[0].expression.arguments[0], tree.Parameter)
    with pytest.raises(Wrong, match="invalid trailing character for positional param: a"):
        expanded("k:$a { }")


def test_kinds_with_patterns() -> None:
    (probe,) = expanded("*ware:cpu* { }").probes
    assert [each.kind for each in probe.points] == ["software", "hardware"]
    with pytest.raises(Wrong, match="No probe type matched for x[*]"):
        expanded("x*:f { }")


def test_options() -> None:
    text = (
        'BEGIN { print((getopt("a", 20), getopt("b", -1), getopt("c", true), getopt("d"), '
        'getopt("e", "hello"), getopt("a", 20, "text"))); }'
    )
    (statement,) = statements(text, "--d", "--a=0xffffffffffffffff", "--b=-10", "--c=False")
    a, b, c, d, e, again = statement.expression.arguments[0].elements
    assert (a.value, b.operand.value, c.value, d.value, e.value) == (
        2**64 - 1,
        10,
        False,
        True,
        "hello",
    )
    assert again.value == a.value
    (statement,) = statements(text)
    assert [
        getattr(each, "value", None) for each in statement.expression.arguments[0].elements
    ] == [
        20,
        None,
        True,
        False,
        "hello",
        20,
    ]


@pytest.mark.parametrize(
    "call, word, message",
    [
        ('getopt("a", 10)', "--a=False", "option --a invalid integer (value: False)"),
        ('getopt("a", 10)', "--b", "unexpected program command line options: --b\nHINT: expected"),
        ('getopt("a", 10, "A thing")', "--help", "program options:\n--a: A thing"),
        ('getopt("a", true)', "--a=maybe", "invalid boolean"),
        ("getopt(1)", "--a", "must be a string literal"),
        ('getopt("a", pid)', "--a", "Second argument to 'getopt' must be"),
        ('(getopt("a", 1), getopt("a", 2))', "--a=1", "Previous default value: 1"),
        ("getopt()", "--a", "maximum of three"),
    ],
)
def test_wrong_options(call: str, word: str, message: str) -> None:
    assert message in wrong(f"BEGIN {{ print({call}); }}", word)


# Imports.


def test_imports(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.bt").write_text(
        'import "../b.bt";\nmacro a() { b() }\nBEGIN { print(1); }'
    )
    (tmp_path / "lib" / "c.h").write_text("struct c { int x; };")
    (tmp_path / "lib" / "README").write_text("not a program")
    (tmp_path / "b.bt").write_text('import "lib";\nmacro b() { 5 }\nBEGIN { print(0); }')
    name = str(tmp_path / "main.bt")
    text = 'import "lib";\nimport "lib/a.bt";\nBEGIN { print(a()); }'
    program = expand(parse(text, name))
    assert [program.place(probe.at) for probe in program.probes] == [
        f"{tmp_path}/lib/../b.bt:3:1-6",
        f"{tmp_path}/lib/a.bt:3:1-6",
        f"{name}:3:1-6",
    ]
    assert program.types[0].name == "c"


@pytest.mark.parametrize(
    "content, message",
    [
        ("config = { max_map_keys = 1 }", "an imported file cannot have a config block"),
        ("BEGIN {\n  print(1", "lib.bt:2:10-10: ERROR: syntax: expected ')'"),
        ("\n  k: { }\nk:$ { }", "lib.bt:3:1-4: ERROR: invalid trailing character"),
        ("\x7fELF\0", "has a NUL byte"),
        (None, "No such file or directory"),
    ],
)
def test_wrong_imports(tmp_path: Path, content: str, message: str) -> None:
    if content is not None:
        (tmp_path / "lib.bt").write_text(content)
    text = 'import "lib.bt";\nBEGIN { }'
    with pytest.raises(Wrong) as caught:
        expand(parse(text, str(tmp_path / "main.bt")))
    assert message in caught.value.report(text, "main.bt")


def test_no_import_from_where_all_can_write(tmp_path: Path) -> None:
    (tmp_path / "lib.bt").write_text("BEGIN { }")
    tmp_path.chmod(0o1777)
    with pytest.raises(Wrong, match="everybody can write to the directory"):
        expand(parse('import "lib.bt";', str(tmp_path / "main.bt")))


# Points.


@pytest.mark.parametrize(
    "text, kind, target, more",
    [
        ("BEGIN", "begin", "", {"text": "begin"}),
        ("i:s:1", "interval", "", {"period": 10**9, "text": "interval:s:1"}),
        ("interval:1s", "interval", "", {"period": 10**9}),
        ("interval:hz:4", "interval", "", {"period": 25 * 10**7}),
        ("profile:hz:99", "profile", "", {"frequency": 99}),
        ("profile:99", "profile", "", {"frequency": 99}),
        ("profile:us:10", "profile", "", {"period": 10000}),
        ("self:signal:SIGUSR1", "self", "SIGUSR1", {}),
        ("t:sched:sched_*", "tracepoint", "sched:sched_*", {}),
        ("t:*sleep*", "tracepoint", "*:*sleep*", {}),
        ("rt:kfree_skb", "rawtracepoint", "kfree_skb", {}),
        ("rt:vmlinux:kfree_skb", "rawtracepoint", "vmlinux:kfree_skb", {}),
        ("k:f+0x10", "kprobe", "f", {"offset": 16}),
        ("kr:module:f", "kretprobe", "module:f", {}),
        ("kfunc:f", "fentry", "f", {}),
        ("u:/bin/x:f+5", "uprobe", "/bin/x:f", {"offset": 5}),
        ("u:/bin/x:0x1234", "uprobe", "/bin/x:0x1234", {}),
        ("u:/bin/x:4660", "uprobe", "/bin/x:0x1234", {}),
        ("U:/bin/x:p:n", "usdt", "/bin/x:p:n", {}),
        ("U:/bin/x:n", "usdt", "/bin/x:*:n", {}),
        ("s:cs:", "software", "context-switches", {"period": 1000, "text": "software:cs:"}),
        ("software:faults:100", "software", "page-faults", {"period": 100}),
        ("h:cache-misses:1e6", "hardware", "cache-misses", {"period": 10**6}),
    ],
)
def test_points(text: str, kind: str, target: str, more: dict[str, Any]) -> None:
    made = point(attach_point((0, len(text)), text))
    assert (made.kind, made.target) == (kind, target)
    for name, expected in more.items():
        assert getattr(made, name) == expected


def test_a_process_is_the_file() -> None:
    assert point(attach_point((0, 5), "u:f"), pid=17).target == ":f"


@pytest.mark.parametrize(
    "text, message",
    [
        ("BEGIN:x", "begin probe type requires 0 arguments, found 1"),
        ("k", "kprobe probe type requires 1 or 2 arguments, found 0"),
        ("tracepoint:sched", "tracepoint probe type requires 2 arguments, found 1"),
        ("interval:99", "Minimum is 1000 or 1us. Found: 99 nanoseconds"),
        ("interval:m:1", "m is not an accepted unit of time"),
        ("interval:s:0", "frequency should be a positive integer"),
        ("profile:hz:x", "Invalid rate of profile probe: invalid integer: x"),
        ("k:f+", "Invalid offset"),
        ("k:f+1+2", "Cannot take more than one offset"),
        ("kr:f+1", "Offset not allowed"),
        ("k:0xffffffff81000000", "Probing by address requires --unsafe"),
        ("u:f", "uprobe probe type requires 2 or 3 arguments, found 1"),
        ("u:/bin/x:cpp:f", "use the mangled one"),
        ("s:cpu-clok", "cpu-clok is not a software probe"),
        ("self:signal:SIGTERM", "SIGTERM is not a supported signal"),
        ("watchpoint:0x1:8:w", "watchpoint probes are not supported"),
        ("iter:task", "iter probes are not supported"),
    ],
)
def test_wrong_points(text: str, message: str) -> None:
    with pytest.raises(Wrong) as caught:
        point(attach_point((0, len(text)), text))
    assert message in caught.value.message
