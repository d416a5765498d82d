"""Manual pages: there is one a tool, it is sound, and it says what the tool takes."""
from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest

import capture
from pytools.show.output import Clock, Output
from pytools.show.stream import EventWriter
from pytools.tool import fields
from pytools.tool.events import EventTool
from pytools.tool.fields import Context
from support import ROOT, all_tools

pytestmark = [
    pytest.mark.rendering,
    pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc"),
]
PAGES = [*all_tools(), "pytools"]
every_tool = pytest.mark.parametrize("tool", PAGES)
SECTIONS = [
    "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "FIELDS", "OVERHEAD", "CAVEATS",
]  # fmt: skip


def page(tool: str) -> str:
    return str(ROOT / "man" / "man8" / f"{tool}.8")


def shown(tool: str) -> str:
    """The page as a terminal shows it, without bold and underline."""
    result = subprocess.run(
        ["mandoc", "-T", "utf8", "-O", "width=78", page(tool)], stdout=subprocess.PIPE, check=True
    )
    return re.sub(r".\x08", "", result.stdout.decode())


def test_the_pages_are_what_the_generator_writes() -> None:
    """The options of a page are those of --help, to the word."""
    pages = {path.stem for path in (ROOT / "man" / "pages").glob("*.8")}
    assert pages == set(PAGES)
    subprocess.run([ROOT / "man" / "generate.py", "--check"], check=True)


@every_tool
def test_mandoc_has_nothing_to_say(tool: str) -> None:
    result = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", page(tool)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert (result.stdout, result.returncode) == ("", 0)


@every_tool
def test_the_page_has_its_sections_within_80_columns(tool: str) -> None:
    text = shown(tool)
    assert max(map(len, text.splitlines())) <= 80
    found = re.findall(r"^([A-Z][A-Z ]+)$", text, re.M)
    assert [section for section in found if section in SECTIONS] == SECTIONS


def section(tool: str, name: str) -> str:
    found = re.search(rf"^{name}$(.*?)(?=^\S|\Z)", shown(tool), re.M | re.S)
    assert found
    return found.group(1)


@every_tool
def test_the_page_documents_the_options_of_the_help_and_no_other(tool: str) -> None:
    # Options stand in the OPTIONS at the beginning of a line.
    heads = re.findall(r"^ {3,8}(-.*)$", section(tool, "OPTIONS"), re.M)
    found = set(re.findall(r"(?<![\w-])--?[A-Za-z0-9][\w-]*", "\n".join(heads)))
    wanted = {name for action in capture.options(tool) for name in action.option_strings}
    assert found - {"-h", "--help"} == wanted


@every_tool
def test_the_synopsis_has_every_option(tool: str) -> None:
    text = section(tool, "SYNOPSIS")
    for action in capture.options(tool):
        if action.dest == "version":
            continue
        letter = action.option_strings[0]
        known = re.escape(letter[1]) if len(letter) == 2 else re.escape(letter)
        assert re.search(rf"-\w*{known}" if len(letter) == 2 else known, text), letter


@every_tool
def test_the_examples_are_valid(tool: str) -> None:
    module = capture.load(tool)
    lines = re.findall(rf"^\s+[#$] +({tool}(?: .*)?)$", section(tool, "EXAMPLES"), re.M)
    assert lines
    for line in lines:
        command = re.split(r"\s{2,}| [|>] ", line)[0].split()
        module.parser.parse_args(command[1:])


class Heads(Output):
    """What would be written to standard output."""

    def __init__(self) -> None:
        self.terminal, self.width, self.written = True, 80, ""

    def write(self, text: str) -> None:
        self.written += text


@every_tool
def test_the_samples_have_the_headings_of_today(tool: str) -> None:
    """Those of tools that print a line for each event: their columns are known before."""
    declared = getattr(capture.load(tool), "tool", None)
    if not isinstance(declared, EventTool):
        return
    samples = re.findall(
        rf"^     # ({tool}(?: [^|>\n]*)?)\n     ([A-Z][A-Z].*)$", section(tool, "EXAMPLES"), re.M
    )
    for command, heading in samples:
        options = declared.parser.parse_args(shlex.split(command)[1:])
        if getattr(options, declared.table_option.lstrip("-"), False):
            continue
        if tool == "killsnoop":
            options.kill = True
        context = Context(options, Clock(), 0)
        columns = fields.columns(declared.fields, declared.keys, "text", context)
        output = Heads()
        EventWriter(output, "text", columns).head()
        assert f"{heading}\n" == output.written, command


def test_the_commands_for_users_of_bpftrace_are_valid() -> None:
    text = (ROOT / "docs" / "from-bpftrace.md").read_text()
    lines = [line.split(" | ")[0].split() for line in re.findall(r"^# (.*)$", text, re.M)]
    shown = [line for line in lines if line[0] in all_tools()]
    assert {line[0] for line in shown} == {"bpfsnoop", "bt"}
    for line in shown:
        capture.load(line[0]).parser.parse_args(line[1:])
    for link in re.findall(r"\]\(\.\./(.*?)\)", text):
        assert (ROOT / link).exists()
