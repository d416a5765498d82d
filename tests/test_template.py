"""Templates rendered for recorded kernels: golden C, offsets against a witness, fuzzed options."""
from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterable
from unittest import mock

import hypothesis
import pytest
from hypothesis import strategies as st

import capture
import golden
from capture import RECORDED, SHAPES, recorded
from pytools.compile import template
from pytools.compile.compiler import Compiler
from pytools.base.errors import Failure
from pytools.compile.image import Image
from pytools.facts import differences
from pytools.facts.kernel import Kernel, TracepointField
from pytools.compile.unrendered import Unrendered
from pytools.compile.template import Rendered, TemplateError, literal, record_struct, render
from support import tool_names
from witness import Witness

pytestmark = pytest.mark.rendering

# Command lines whose C is kept: PYTOOLS_UPDATE_GOLDEN=1 pytest tests/test_template.py -k golden
GOLDEN: dict[str, tuple[str, list[str]]] = {
    "runqlen": ("runqlen", []),
    "runqlen-cfs": ("runqlen", ["--cfs"]),
    "runqlat": ("runqlat", []),
    "runqlat-most": (
        "runqlat",
        ["--pidnss", "--summary", "--cgroup", "/", "-p", "1", "--comm", "cat"],
    ),
    "opensnoop-most": (
        "opensnoop",
        "-F -x -n cat -f O_WRONLY -u 0 --cgroup / -p 1,2 --comm cat --mntns".split()
        + [capture.SAMPLES["mntns"]],
    ),
    "memleak-user": ("memleak", ["--user"]),
    "opensnoop-callers": ("opensnoop", ["-c", "--mntnsmap", capture.SAMPLES["mntnsmap"]]),
    "filelife-path": ("filelife", ["-F"]),
    "runqlat-exec": ("runqlat", ["--exec", "true"]),
    "profile-cgroupmap": ("profile", ["--cgroupmap", capture.SAMPLES["cgroupmap"]]),
    "execsnoop-most": ("execsnoop", "-x -e -u 0 -P 1 -p 1,2 --comm cat --cgroup /".split()),
    "syscount-most": ("syscount", "-L -P -E -e ENOENT --syscall read -c 1 -t 1 -p 1,2".split()),
    "syscount-failed": ("syscount", ["-x"]),
    "biolatency-most": ("biolatency", "-F -e -Q --disk loop0 -p 1".split()),
    "biolatpcts-most": ("biolatpcts", "-w from-rq-alloc 7:0".split()),
    "bitesize-most": ("bitesize", "--summary -p 1".split()),
    "runqslower-most": ("runqslower", "-P --container -p 1,2 -t 1".split()),
    "cpudist-off": ("cpudist", "-O -I -L -e".split()),
    "tcpconnect-most": (
        "tcpconnect",
        ["-D", "-P", "1,2", "-4", "--netns", capture.SAMPLES["netns"], "-u", "0", "-p", "1"],
    ),
    "tcplife-most": (
        "tcplife",
        "-w -L 1 -D 2,3 -6 -p 1,2 --comm cat --netns".split() + [capture.SAMPLES["netns"]],
    ),
    "flowtop-most": ("flowtop", "-i lo -P 1,2 -4".split()),
    "tcpconnect-count": ("tcpconnect", ["-c"]),
    "bindsnoop-count": ("bindsnoop", ["--count"]),
    SHAPES: (SHAPES, []),
    **{tool: (tool, []) for tool in tool_names()},
}


def rendered(tool: str, arguments: list[str], kernel: Kernel) -> str:
    captured = capture.capture(tool, arguments, kernel)
    return render(captured, kernel).text


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_c(name: str) -> None:
    texts = {release: rendered(*GOLDEN[name], recorded(release)) for release in RECORDED}
    if os.environ.get("PYTOOLS_UPDATE_GOLDEN"):
        golden.write(name, texts)
    kept = golden.read(name)
    assert kept.keys() == texts.keys()
    for release, text in texts.items():
        hint = f"on {release}; if that is right: PYTOOLS_UPDATE_GOLDEN=1, see {__file__}"
        assert text == kept[release], hint


def test_no_golden_c_is_left_of_what_there_is_no_more() -> None:
    assert {path.name for path in golden.FOLDER.iterdir()} == {
        path.name for name in GOLDEN for path in golden.paths(name)
    }


LINES = st.lists(st.sampled_from(["struct a {\n", "\tint b;\n", "\tchar _pad0[4];\n", "};\n"]))


@hypothesis.given(LINES, LINES)
def test_a_difference_of_golden_c_makes_one_text_of_the_other(a: list[str], b: list[str]) -> None:
    hunks = list(golden.difference(a, b))
    assert list(golden.applied(a, hunks)) == b
    if hunks:  # to another text, it can't be applied unnoticed
        with pytest.raises(AssertionError):
            list(golden.applied(["}\n"] * len(a), [*hunks, "@@ -1 +1 @@\n", "-int c;\n", "+}\n"]))


def test_golden_c_says_what_a_kernel_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "FOLDER", tmp_path)
    text = "struct a {\n\tchar _pad0[4];\n\tint b;\n};\n"
    oldest = text.replace("int b", "long b").replace("4", "8")
    texts = {release: text for release in RECORDED}
    texts.update({"5.10": oldest, "6.1": text.replace("4", "8"), "7.0": text.replace("4", "8")})
    golden.write("a", texts)
    assert golden.read("a") == texts
    assert (tmp_path / "a.c").read_text() == text
    assert (tmp_path / "a.diff").read_text() == (
        "--- 7.3\n+++ 5.10: offsets, and struct a\n@@ -2,2 +2,2 @@ struct a {\n"
        "-\tchar _pad0[4];\n-\tint b;\n+\tchar _pad0[8];\n+\tlong b;\n"
        "--- 7.3\n+++ 6.1, 7.0: only offsets\n@@ -2 +2 @@ struct a {\n"
        "-\tchar _pad0[4];\n+\tchar _pad0[8];\n"
        "--- 7.3\n+++ 6.12, 6.18: the same\n"
    )


def declared(text: str) -> dict[str, set[str]]:
    """The structs in a rendered text, with the words in each but for the names of
    those that a member points to."""
    text = re.sub(r"\b(?:struct|union) \w+ (?=\*)", "", text)
    blocks = re.findall(r"^(?:struct|union) (\w+) \{\n(.*?)^\}", text, re.M | re.S)
    return {name: set(re.findall(r"\w+", body)) for name, body in blocks}


every_template = pytest.mark.parametrize("tool", [*tool_names(), SHAPES])


def command_lines(tool: str) -> list[list[str]]:
    return capture.command_lines(tool) if tool != SHAPES else [[]]


@every_template
def test_every_option_compiles(tool: str) -> None:
    """On every kernel where the text is another one, but for the padding. A filter that all tools
    share compiles together with the others: test_filters.py has each alone. Between the oldest
    and the newest kernel, a template that is one of theirs is rendered, and not compiled again."""
    filters = capture.filter_lines(tool) if tool != SHAPES else []
    together = [word for line in filters for word in line]
    lines = [*command_lines(tool), together]
    seen = set()
    texts = []
    ends = [RECORDED[0], RECORDED[-1]]
    templates = []
    for release in [*ends, *RECORDED[1:-1]]:
        kernel = recorded(release)
        plain = capture.capture(tool, [], kernel)
        for line in lines:
            captured = capture.capture(tool, line, kernel)
            if line in filters and own_code(captured) == own_code(plain):
                continue
            found = render(captured, kernel)
            template = captured.template, captured.code
            if release in ends:
                templates.append(template)
            elif line and template in templates:
                continue
            if golden.form(found.text) not in seen:
                seen.add(golden.form(found.text))
                texts.append(found)
    # The compilers are processes: as many at a time as there are processors.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for text, image in zip(texts, pool.map(compiled, texts)):
            assert len(image.programs) == len(text.hooks)


def own_code(source: Unrendered) -> tuple[str, dict[str, str]]:
    """What a tool itself has put together: all but the filters of lib."""
    return source.template, {name: c for name, c in source.code.items() if name != "WANTED"}


@functools.lru_cache(maxsize=None)
def witness(release: str) -> Witness | None:
    try:
        return Witness(str(capture.FIXTURES / "kernels" / release / "vmlinux.btf"))
    except (OSError, subprocess.CalledProcessError):
        return None


def kernel_types(source: Unrendered, kernel: Kernel) -> tuple[Rendered, str]:
    """A rendered text, and the declarations of the kernel's types in it."""
    found = []
    declare = template._kernel_types

    def recording(text: str, kernel: Kernel) -> str:
        found.append(declare(text, kernel))
        return found[-1]

    with mock.patch.object(template, "_kernel_types", recording):
        return render(source, kernel), found[0]


@every_template
def test_every_member_is_where_bpftool_sees_it(tool: str) -> None:
    """With every option, on every kernel. The types of each stand in a function of their own, so
    that all are compiled at once."""
    functions: dict[str, str] = {}
    for release in RECORDED:
        seen_by = witness(release)
        if seen_by is None:
            continue
        kernel = recorded(release)
        for line in command_lines(tool):
            found, types = kernel_types(capture.capture(tool, line, kernel), kernel)
            checks = assertions(types, seen_by)
            # Programs for packets and soft interrupts may name no struct of the kernel.
            assert checks or {hook.kind for hook in found.hooks} <= {"classifier", "raw_tracepoint"}
            functions[types + checks] = f"{release} {line}"
    assert len(compiled(unused(functions)).programs) == 1
    too_old = [release for release in RECORDED if witness(release) is None]
    if too_old:
        pytest.skip(f"bpftool is missing, or too old for the types of {', '.join(too_old)}")


def assertions(types: str, seen_by: Witness) -> str:
    """C that says where the members of declared structs are."""
    structs = {name: words for name, words in declared(types).items() if name in seen_by.named}
    return "".join(seen_by.assertions(name, words) for name, words in structs.items())


def unused(bodies: Iterable[str]) -> Rendered:
    """A program that does nothing, and functions that nobody calls."""
    functions = [
        f"static inline void unused{number}(void)\n{{\n{body}}}\n"
        for number, body in enumerate(bodies)
    ]
    program = render(Unrendered("PERF_EVENT(program)\n{\n\treturn 0;\n}\n"), KERNEL)
    return program._replace(text=program.text + "".join(functions))


def compiled(text: Rendered) -> Image:
    with Compiler() as compiler:
        return compiler.compile(text)


def test_a_wrong_offset_fails_to_compile() -> None:
    seen_by = witness("6.12")
    if seen_by is None:
        pytest.skip("bpftool is missing, or too old for the types of 6.12")
    _, types = kernel_types(capture.capture("runqlat", [], KERNEL), KERNEL)
    right = types + assertions(types, seen_by)
    (offset,) = re.findall(r"struct task_struct, pid\) == (\d+)", right)
    wrong = right.replace(f"pid) == {offset}", f"pid) == {int(offset) + 1}")
    compiled(unused([right, types]))
    with pytest.raises(Failure, match="task_struct"):
        compiled(unused([right, wrong]))


# Strictness.

KERNEL = recorded("6.12")


@pytest.mark.parametrize(
    "template, code, values, message",
    [
        ("int x = $UNKNOWN;", {}, {}, "placeholder $UNKNOWN is not replaced"),
        ("int x;", {"UNUSED": "1"}, {}, "no placeholder $UNUSED"),
        ("int x;", {}, {"UNUSED": 1}, "no placeholder $UNUSED"),
        ("int x = $A;", {"A": "1"}, {"A": 1}, "$A is given twice"),
        ("int x = $A;", {"A": "$B", "B": "$A"}, {}, "contains itself"),
        ("int x = $A;", {"A": "$NONE"}, {}, "placeholder $NONE is not replaced"),
        ("int x;\nint y = $ 1;", {}, {}, "line 2: a '$' that begins no placeholder"),
        ("int x = $lower;", {}, {}, "a '$' that begins no placeholder"),
        ('#include "none.h"\n', {}, {}, "no bpf/none.h"),
        ("TRACEPOINT(sched)\n{\n}\n", {}, {}, "cannot read TRACEPOINT"),
        ("RAW_TRACEPOINT(sched_switch, )\n{\n}\n", {}, {}, "cannot read RAW_TRACEPOINT"),
    ],
)
def test_a_mistake_in_a_template_is_named(
    template: str, code: dict[str, str], values: dict[str, int], message: str
) -> None:
    with pytest.raises(TemplateError, match=re.escape(message)):
        render(Unrendered(template, code, values), KERNEL)


def test_user_functions_and_probes() -> None:
    template = (
        "UPROBE(f, int a, void *b, u64 c, u64 d, u64 e, u64 f, char g)\n{\n\treturn 0;\n}\n"
        "URETPROBE(f, int result)\n{\n\treturn result;\n}\n"
        "USDT(p, s32 one, char *two)\n{\n\treturn one;\n}\n"
    )
    ways = ["-4@%eax 8@-16(%rbp)", "-4@$7 8@%rdi 4f@%xmm0"]
    machine = os.uname().machine
    if machine != "x86_64":
        pytest.skip(f"places of arguments are those of x86-64, not of {machine}")
    for release, end in (("5.10", ""), ("6.18", ".multi")):
        found = render(Unrendered(template, probes={"p": ways}), recorded(release))
        assert [hook[:3] for hook in found.hooks] == [
            ("uprobe__f", f"uprobe{end}", "f"), ("uretprobe__f", f"uretprobe{end}", "f"),
            ("usdt__p__0", f"usdt{end}", "p"), ("usdt__p__1", f"usdt{end}", "p"),
        ]  # fmt: skip
        with Compiler() as compiler:
            assert len(compiler.compile(found).programs) == 4
    with pytest.raises(Failure, match="probe p: argument 2 can't be read"):
        render(Unrendered(template, probes={"p": ["4@%eax 8f@%xmm1"]}), recorded("6.18"))
    with pytest.raises(TemplateError, match=r"USDT\(p\): the source names no way"):
        render(Unrendered(template), recorded("6.18"))


def test_a_raw_tracepoint_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(Failure, match="no raw tracepoint sched_nothing"):
        render(Unrendered("RAW_TRACEPOINT(sched_nothing, int x)\n{\n}\n"), KERNEL)


def test_a_raw_tracepoint_with_other_arguments_is_refused() -> None:
    template = "RAW_TRACEPOINT(sched_switch, bool preempt, struct rq *prev)\n{\n}\n"
    with pytest.raises(Failure, match="argument 2 is struct task_struct"):
        render(Unrendered(template), KERNEL)


def test_a_tracepoint_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(Failure, match="no tracepoint sched:nothing"):
        render(Unrendered("TRACEPOINT(sched, nothing)\n{\n}\n"), KERNEL)


# Functions.


def hooks_of(template: str, kernel: Kernel, fentry: bool = True) -> list[tuple[str, str]]:
    with Compiler() as compiler:
        image = compiler.compile(render(Unrendered(template), kernel, fentry))
    return [(program.kind, program.target) for program in image.programs]


UNLINK = (
    "FUNCTION_RETURN(vfs_unlink, int result, struct dentry *dentry)\n"
    "{\n\treturn result + dentry->d_inode->i_nlink;\n}\n"
)


# Where a task may be preempted in fentry and fexit, and links take their place.
LINKED = ("7.0", "7.3")


@pytest.mark.parametrize("release", RECORDED)
def test_a_function_s_argument_is_found_where_the_kernel_has_it(release: str) -> None:
    kernel = recorded(release)
    place, register = (1, "si") if release == "5.10" else (2, "dx")
    text = render(Unrendered(UNLINK), kernel).text
    if release not in LINKED:
        assert f"struct dentry *dentry = (struct dentry *)ctx->args[{place}];" in text
        # The result stands behind the last argument.
        last = 3 if release == "5.10" else 4
        assert f"int result = (int)ctx->args[{last}];" in text
        assert hooks_of(UNLINK, kernel) == [("fexit", "vfs_unlink")]
    link = ".multi" if release in LINKED else ""
    text = render(Unrendered(UNLINK), kernel, False).text
    assert f"entered->arguments[1 * depth + 0] = ctx->{register};" in text
    assert hooks_of(UNLINK, kernel, bool(link)) == [
        ("kprobe" + link, "vfs_unlink"),
        ("kretprobe" + link, "vfs_unlink"),
    ]


CALL_ENDS = (
    "TRACEPOINT(syscalls, sys_exit_openat)\n{\n\treturn args->ret < 0;\n}\n"
    "TRACEPOINT(syscalls, sys_enter_connect)\n{\n\treturn args->fd;\n}\n"
)


@pytest.mark.parametrize("release", RECORDED)
def test_programs_at_system_calls_are_where_nobody_is_preempted_in_them(release: str) -> None:
    expected = [
        ("tracepoint", "syscalls:sys_exit_openat"), ("tracepoint", "syscalls:sys_enter_connect")
    ]  # fmt: skip
    if release == "7.3":
        expected = [("kretprobe.multi", "__x64_sys_openat"), ("kprobe.multi", "__x64_sys_connect")]
    assert hooks_of(CALL_ENDS, recorded(release)) == expected


def test_an_optional_function_is_left_out_where_it_is_not() -> None:
    there = "FUNCTION(vfs_unlink)\n{\n\tif (1) {\n\t\treturn 1;\n\t}\n\treturn 0;\n}\n"
    missing = there.replace("vfs_unlink", "vfs_nothing")
    text = f"OPTIONAL {missing}OPTIONAL {there}"
    assert hooks_of(text, KERNEL) == hooks_of(there, KERNEL)


@pytest.mark.parametrize(
    "template, message",
    [
        ("FUNCTION(vfs_nothing)\n{\n}\n", "no function vfs_nothing that can be traced"),
        (
            "FUNCTION(vfs_unlink, struct file *file)\n{\n}\n",
            "function vfs_unlink has no argument file in this kernel",
        ),
        (
            "FUNCTION(vfs_unlink, struct file *dentry)\n{\n}\n",
            "argument dentry is struct dentry * in this kernel, not struct file *",
        ),
        ("FUNCTION_RETURN(vfs_unlink)\n{\n}\n", "cannot read FUNCTION_RETURN"),
        ("FUNCTION(vfs_unlink, )\n{\n}\n", "cannot read FUNCTION"),
    ],
)
def test_a_function_that_is_not_as_written_is_named(template: str, message: str) -> None:
    for fentry in (True, False):
        with pytest.raises(Failure, match=re.escape(message)):
            render(Unrendered(template), KERNEL, fentry)


def with_functions(tmp_path: Path, *names: str) -> Kernel:
    (tmp_path / "available_filter_functions").write_text("".join(f"{name}\n" for name in names))
    btf = capture.FIXTURES / "kernels" / "6.12" / "vmlinux.btf"
    return Kernel("6.12", str(btf), str(tmp_path))


def test_a_function_is_known_by_the_compiler_s_and_the_kernel_s_suffixes(tmp_path: Path) -> None:
    names = ["a.isra.0", "b.constprop.0.isra.1", "c_noprof [module]", "d.part.0", "e.cold", "ee"]
    kernel = with_functions(tmp_path, *names)
    found = {name: kernel.attachable(name) for name in "abcde"}
    assert found == {"a": names[0], "b": names[1], "c": "c_noprof", "d": None, "e": None}
    # Its prototype is not what BTF says: no fentry, and no argument.
    assert hooks_of("FUNCTION(a)\n{\n\treturn 0;\n}\n", kernel) == [("kprobe", "a.isra.0")]
    with pytest.raises(Failure, match="the compiler may have changed its arguments"):
        render(Unrendered("FUNCTION(a, int x)\n{\n}\n"), kernel)


def test_a_struct_of_the_template_s_own_may_have_a_kernel_struct_s_name() -> None:
    template = "struct qstr { u32 hash; };\nstruct dentry *d;\nint x = d->d_name.len;\n"
    text = render(Unrendered(template), KERNEL).text
    assert text.count("struct qstr {") == 1
    assert re.search(r"struct \{\n[^}]*unsigned int len;[^}]*\}[^;]* d_name;", text)


# What users type.


@hypothesis.given(st.integers())
def test_a_number_s_literal_is_the_number_or_refused(number: int) -> None:
    if not -(1 << 63) < number < 1 << 64:
        with pytest.raises(Failure, match="does not fit"):
            literal(number)
        return
    assert int(literal(number).rstrip("UL")) == number


@hypothesis.given(st.integers(-(1 << 63) + 1, (1 << 64) - 1))
@hypothesis.settings(max_examples=4)
def test_the_compiler_reads_a_literal_as_that_number(number: int) -> None:
    modulo = number % (1 << 64)
    text = (
        f"_Static_assert((u64){literal(number)} == {modulo >> 32}ULL << 32 | {modulo % (1 << 32)},"
        ' "literal");\nPERF_EVENT(p)\n{\n\treturn 0;\n}\n'
    )
    with Compiler() as compiler:
        compiler.compile(render(Unrendered(text), KERNEL))


@hypothesis.given(st.binary(min_size=1))
def test_bytes_become_numbers_only(data: bytes) -> None:
    assert re.fullmatch(r"\{ [0-9, ]+ \}", literal(data))
    assert bytes(int(number) for number in re.findall(r"\d+", literal(data))) == data


@pytest.mark.parametrize("value", ["text", 1.5, None, b""])
def test_nothing_else_has_a_literal(value: object) -> None:
    with pytest.raises(TypeError):
        literal(value)  # type: ignore[arg-type]


# Text that means something to C, to the template, or to a terminal.
JUNK = st.one_of(
    st.sampled_from(
        ["0", "-1", "1", "99999999999999999999", "1e309", "nan", "inf", "-0", "1_0", "٣", "", " "]
        + [
            '"; bpf_trace_printk("x',
            "$UNKNOWN",
            "*/ int x;",
            "/",
            "/proc",
            "\x1b[2J",
            "%s",
            "'",
            "\\",
        ]
    ),
    st.text(max_size=20),
)


@pytest.mark.parametrize("tool", tool_names())
def test_fuzzed_options_never_give_a_traceback_nor_raw_text_in_c(tool: str) -> None:
    actions = capture.options(tool)
    shared = {"version", "ebpf", "list", "schema"}  # these end the tool before it prepares anything
    strings = [name for a in actions if a.dest not in shared for name in a.option_strings]
    valued = {name for a in actions if a.nargs != 0 for name in a.option_strings}
    kernel = recorded("6.12")
    marker = "zqxj"

    @st.composite
    def lines(draw: st.DrawFn) -> list[str]:
        line = []
        for _ in range(draw(st.integers(0, 4))):
            option = draw(st.sampled_from([*strings, ""]))
            line += [option] if option else []
            if option in valued or not option or draw(st.integers(0, 9)) == 0:
                line.append(draw(JUNK) + draw(st.sampled_from(["", marker])))
        return line

    @hypothesis.given(lines())
    def check(line: list[str]) -> None:
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                captured = capture.capture(tool, line, kernel)
        except SystemExit as error:
            assert error.code in (0, 2)
            return
        except Failure:
            return
        text = render(captured, kernel).text
        assert marker not in text
        assert text.isascii()

    check()


# Tracepoint records.


def test_a_tracepoint_s_record_has_its_fields_at_their_offsets() -> None:
    fields = [
        TracepointField("unsigned short", "common_type", 0, 2, False),
        TracepointField("int", "dfd", 16, 8, True),
        TracepointField("const char *", "filename", 24, 8, False),
        TracepointField("char[16]", "comm", 32, 16, False),
        TracepointField("__data_loc char[]", "name", 48, 4, False),
        TracepointField("u8", "flag", 53, 1, False),
    ]
    text = record_struct("open", fields)
    assert text.splitlines() == [
        "struct open {",
        "\tchar _pad0[16];",
        "\ts64 dfd;",
        "\tvoid *filename;",
        "\tchar comm[16];",
        "\tu32 __data_loc_name;",
        "\tchar _pad52[1];",
        "\tu8 flag;",
        "};",
    ]


@pytest.mark.parametrize("release", RECORDED)
def test_recorded_formats_compile_to_their_offsets(release: str) -> None:
    kernel = recorded(release)
    text, asserts = "", ""
    for path in sorted((capture.FIXTURES / "kernels" / release / "events").glob("*/*/format")):
        category, name = path.parts[-3:-1]
        text += f"TRACEPOINT({category}, {name})\n{{\n\treturn 0;\n}}\n"
        if differences.call_function(name.split("_", 2)[-1], kernel) and category == "syscalls":
            continue  # it is reached by its function, and the record is our own
        for line in path.read_text().splitlines():
            found = re.search(r"field:(.*?)(\w+)(\[\d*\])?;\s*offset:(\d+);\s*size:(\d+);", line)
            if found and not found.group(2).startswith("common_"):
                prefix = "__data_loc_" if "__data_loc" in found.group(1) else ""
                member = f"struct {category}__{name}, {prefix}{found.group(2)}"
                asserts += f'_Static_assert(offsetof({member}) == {found.group(4)}, "{member}");\n'
    assert asserts
    with Compiler() as compiler:
        found_text = render(Unrendered(text), kernel)
        compiler.compile(found_text._replace(text=found_text.text + asserts))
