"""The compiler's child process: what it is given, what it says, what it leaves."""
from __future__ import annotations

import importlib
import json
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import capture
from pytools.compile import compiler
from pytools.compile.compiler import Compiler
from pytools.base import child as child_processes
from pytools.base.errors import Failure
from pytools.compile.image import Image
from pytools.compile.unrendered import Unrendered
from pytools.compile.template import Rendered, render
from pytools.facts.kernel import Kernel
from pytools.load.maps import RINGBUF
from support import needed, tool_names

PROGRAM = "PERF_EVENT(program)\n{\n\treturn 0;\n}\n"


def rendered(template: str) -> Rendered:
    return render(Unrendered(template), capture.recorded("6.12"))


@pytest.mark.rendering
def test_an_error_is_one_line_with_the_compiler_s_own_as_detail() -> None:
    with Compiler() as child, pytest.raises(Failure) as failure:
        child.compile(rendered("int x = nowhere;\n" + PROGRAM))
    assert str(failure.value).startswith("cannot compile the BPF program: line 1:9: error: ")
    assert "\n" not in str(failure.value)
    assert "nowhere" in failure.value.detail


@pytest.mark.host_only
def test_no_environment_makes_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be kept, for those whose environment is another one."""
    kernel = capture.recorded("6.12")
    program = render(capture.capture("opensnoop", kernel=kernel), kernel)
    with Compiler() as child:
        image = child.compile(program)
    for name, text in (
        ("ARCH", "powerpc"), ("BCC_KERNEL_SOURCE", "/nowhere"), ("BCC_LINUX_VERSION_CODE", "1"),
        ("CPATH", "/tmp"), ("TMPDIR", "/nowhere"), ("HOME", "/nowhere"), ("PATH", "."),
        ("PYTHONPATH", "/nowhere"), ("PYTHONHOME", "/nowhere"), ("PYTHONSTARTUP", "/nowhere"),
    ):  # fmt: skip
        monkeypatch.setenv(name, text)
    with Compiler() as child:
        assert child.compile(program) == image


@pytest.mark.rendering
def test_a_program_that_reads_the_stack_too_deeply_is_refused() -> None:
    template = PROGRAM.replace("return 0", "volatile char big[600] = {1}; return big[5]")
    with Compiler() as child, pytest.raises(Failure, match="cannot compile"):
        child.compile(rendered(template))


@pytest.mark.rendering
def test_an_image_says_the_maps_and_programs_by_name() -> None:
    template = (
        "struct event { u64 ts; char comm[16]; };\nEVENTS(events, struct event);\n"
        "BPF_HASH(counts, u32, u64, 77);\nBPF_PERCPU_ARRAY(lost, u64, 2);\n"
        "PERF_EVENT(one)\n{\n\tu32 key = 0; u64 value = 1;\n\tcounts.update(&key, &value);\n"
        "\tstruct event event = {};\n\tevents.ringbuf_output(&event, sizeof(event), 0);\n"
        "\treturn 0;\n}\n" + PROGRAM
    )
    with Compiler() as child:
        image = child.compile(rendered(template))
    maps = {spec.name: spec for spec in image.maps}
    assert sorted(maps) == ["counts", "events", "lost"]
    assert maps["counts"][1:5] == (1, 4, 8, 77)
    assert maps["events"].type == RINGBUF
    assert [name for name, *_ in maps["events"].value[1]] == ["ts", "comm"]
    assert [program.name for program in image.programs] == [
        "perf_event__one",
        "perf_event__program",
    ]
    assert {name for _, name in image.programs[0].maps} == {"counts", "events"}
    assert Image.parse(image.dump()) == image


def test_two_compilations_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    with Compiler() as child:
        image = child.compile(rendered(PROGRAM)).dump()
    # In a test machine the host compiles (tests/kernels/compile_client.py): here the machine's own
    # compiler does it again, on other machines the same one.
    here = (Path(compiler.HERE) / "compiler_child_here.py").exists()
    name = "compiler_child_here" if here else "compiler_child"
    module = importlib.import_module(f"pytools.compile.{name}")
    monkeypatch.setattr(compiler, "_compile", module.main)
    with Compiler() as child:
        assert child.compile(rendered(PROGRAM)).dump() == image


@pytest.mark.rendering
def test_the_child_is_gone_whatever_happens() -> None:
    with Compiler() as child:
        pass
    assert child._child.returncode is not None
    with pytest.raises(KeyError), Compiler() as child:
        raise KeyError
    assert child._child.returncode is not None


@pytest.mark.rendering
@pytest.mark.parametrize(
    "code, message",
    [
        ("print('{')", "the compiler gave no image"),
        ("print('[1, 2]')", "the compiler gave no image"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("sys.exit(1)", "no reason given"),
        ("sys.exit(3)", "bcc is not installed"),
        ("sys.exit('error: no room')", "no room"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_child_that_fails_is_one_line(
    code: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "_compile", lambda: exec(code, {"os": os, "sys": sys}))
    with Compiler() as child, pytest.raises(Failure, match=message):
        child.compile(rendered(PROGRAM))


@pytest.mark.rendering
def test_missing_headers_are_named() -> None:
    with Compiler() as child, pytest.raises(Failure, match="install the headers"):
        child.compile(Rendered("", [], "/nonexistent", []))


class Child:
    """In the place of the compiler's: it keeps what it is given, and fails."""

    returncode = 1
    received: dict[str, Any] = {}

    def give(self, request: bytes) -> None:
        Child.received = json.loads(request)

    def wait(self) -> tuple[bytes, bytes]:
        return b"", b""

    def end(self) -> None:
        pass


def run_here(module: types.ModuleType, arguments: list[str]) -> int | None:
    """Start a tool in this process; its exit status, or None for a Failure."""
    try:
        module.start(module.tool.options(needed(module.__name__, arguments)))
    except SystemExit as ended:
        return int(ended.code or 0)
    except Failure:
        return None
    raise AssertionError(f"{module.__name__} {arguments} did not end")


@pytest.mark.host_only
@pytest.mark.parametrize("tool", tool_names())
def test_ebpf_prints_exactly_what_the_compiler_is_given(
    tool: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With every option, in this process and on a recorded kernel."""
    monkeypatch.setattr(child_processes, "Forked", lambda what, function: Child())
    # They are the same for all command lines.
    monkeypatch.setattr(Kernel, "forget_types", lambda kernel: None)
    module = capture.load(tool)
    with capture.on(capture.recorded("6.12")):
        for line in capture.command_lines(tool):
            assert run_here(module, [*line, "--ebpf"]) == 0
            printed = capfd.readouterr()
            assert not printed.err
            if not line:  # whether there is a cache or none
                assert run_here(module, ["--no-cache", "--ebpf"]) == 0
                assert capfd.readouterr() == printed
            assert run_here(module, [*line, "--no-cache"]) is None
            given = Child.received
            head = printed.out[: -len(given["text"])]
            assert printed.out == head + given["text"]
            assert re.findall(r"(\w+) = ", head) == [name.lower() for name in given["settings"]]


@pytest.mark.rendering
def test_nothing_is_imported_from_the_working_directory_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json.py", "bcc.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Compiler() as child:
        child.compile(rendered(PROGRAM))
