"""Command lines of bcc's users mean here what they mean there."""
from __future__ import annotations

import argparse
import shlex
import subprocess
from typing import Any, Iterator

import pytest

import capture
from pytools.tool import peers
from support import TOOLS, all_tools, in_fork

pytestmark = pytest.mark.host_only

# Letters of libbpf-tools that bcc's tool of the same name has for something else.
BCC_S = {("syscount", "-c"), ("biolatency", "-D"), ("hardirqs", "-C"), ("hardirqs", "-c")}
BCC_S |= {("mountsnoop", "-d"), ("capable", "-u"), ("tcpstates", "-T")}


def facts(name: str) -> list[list[str]]:
    """The lines of a file of facts, as words of a shell."""
    lines = (capture.FIXTURES / name).read_text().splitlines()
    return [shlex.split(line) for line in lines if not line.startswith("#")]


def cases(name: str) -> Iterator[Any]:
    for words in facts(name):
        yield pytest.param(words, id=" ".join(words))


def parser_of(tool: str) -> Any:
    """A parser of our tool that has been asked for no other spelling yet."""
    capture.load.cache_clear()
    return capture.load(tool).parser


@pytest.mark.parametrize("words", cases("bcc-lines.txt"))
def test_a_published_command_line_is_accepted(words: list[str]) -> None:
    tool, *arguments = ["root" if word == "user" else word for word in words]
    try:
        parser_of(tool).parse_args(arguments)
    except SystemExit as ended:
        assert "-h" in arguments and ended.code == 0


def test_all_published_command_lines_are_there() -> None:
    assert len(facts("bcc-lines.txt")) == 693
    assert len(facts("bcc-lines.txt")) == 693
    assert len(facts("bcc-lines.txt")) == 693
    assert len(facts("bcc-lines.txt")) == 693


def is_refused_with_a_hint(tool: str, name: str) -> bool:
    return any(
        name in each.names and each.how == peers.MOVED for each in peers.DIFFERENCES.get(tool, ())
    )


def meaning(action: argparse.Action) -> tuple[Any, ...]:
    return action.dest, action.const, action.nargs


@pytest.mark.parametrize("words", [*cases("bcc-options.txt"), *cases("libbpf-options.txt")])
def test_all_spellings_of_an_option_mean_the_same(words: list[str]) -> None:
    """The letter and the name, and both take a value if theirs do; or an error says what stands
    for them."""
    tool, *names = words
    takes = names[-1] == "="
    parser = parser_of(tool)
    peers.accept(parser)
    known = parser._option_string_actions
    names = names[:-1] if takes else names
    if (tool, names[0]) in BCC_S:
        return
    accepted = [name for name in names if not is_refused_with_a_hint(tool, name)]
    assert not set(names) - set(accepted) & set(known)
    assert len({meaning(known[name]) for name in accepted}) <= 1
    assert all((known[name].nargs != 0) == takes or known[name].nargs == "?" for name in accepted)


def test_a_letter_with_a_meaning_of_its_own_is_bcc_s() -> None:
    for tool, arguments, member, value in (
        ("biolatency", ["-d", "sda"], "disk", "sda"),
        ("biosnoop", ["-d", "sda"], "disk", "sda"),
        ("biolatpcts", ["-p", "99.9,50", "8:0"], "pcts", ["50", "99.9"]),
        ("biopattern", ["-d", "vdb", "1", "10"], "count", 10),
        ("profile", ["-adf", "30"], "delimited", True),
        ("profile", ["-adf", "30"], "seconds", 30),
        ("offcputime", ["-df", "30"], "seconds", 30),
        ("offcputime", ["-df", "30"], "folded", True),
        ("tcpconnect", ["-d"], "dns", True),
        ("tcpconnect", ["-L"], "lport", True),
        ("tcplife", ["-stT"], "form", "csv"),
        ("opensnoop", ["-d", "10"], "duration", 10),
        ("runqlat", ["-d", "10"], "duration", 10),
        ("profile", ["-c", "1000000"], "events", 1_000_000),
        ("opensnoop", ["-c"], "callers", True),
        ("syscount", ["-c", "181"], "ppid", 181),
        ("biosnoop", ["-m", "10"], "least", 10),
        ("filelife", ["-F"], "full_path", True),
        (
            "opensnoop",
            ["-x", "--exec", "ls", "-l", "--", "-d"],
            "command",
            ["ls", "-l", "--", "-d"],
        ),
        ("syscount", ["1", "--exec=ls", "--json"], "command", ["ls", "--json"]),
        ("syscount", ["1", "--exec", "ls", "--json"], "form", "text"),
        ("ext4slower", ["-j", "1"], "form", "csv"),
        ("f2fsslower", ["-s", "0"], "form", "csv"),
        ("btrfsslower", ["-d", "10"], "duration", 10),
        ("xfsdist", ["-T", "1"], "timestamp", False),
        ("filetop", ["-d", "/etc"], "directory", "/etc"),
        ("statsnoop", ["-ts"], "timestamp", True),
    ):
        assert getattr(parser_of(tool).parse_args(arguments), member) == value, (tool, arguments)


def test_a_user_may_be_given_by_name() -> None:
    found = [
        tool for tool in all_tools() if "--uid" in capture.load(tool).parser._option_string_actions
    ]
    assert len(found) > 3
    for tool in found:
        words = [*capture.load(tool).tool.try_with, "--uid", "root"]
        options = capture.load(tool).tool.options(words)
        assert (options.wanted or options.filter).settings["UID"] == 0


def test_every_tool_has_a_duration() -> None:
    for tool in all_tools():
        if capture.load(tool).tool.traces:
            assert (
                parser_of(tool)
                .parse_args([*capture.load(tool).tool.try_with, "--duration", "2.5"])
                .duration
                == 2.5
            )


@pytest.mark.parametrize("tool", all_tools())
def test_the_table_is_about_what_there_is(tool: str) -> None:
    parser = parser_of(tool)
    known = dict(parser._option_string_actions)
    text = parser.format_help()
    for each in peers.DIFFERENCES.get(tool, ()):
        assert not each.ours or each.ours in known, each
        assert not set(each.names) & set(known), f"{each} is an option of ours"
        assert each.about == "" or each.about.endswith(".")
        assert each.how in (peers.ACCEPTED, peers.IGNORED, peers.MOVED, peers.OUTPUT)
        assert bool(each.theirs) == (each.how != peers.OUTPUT)
    peers.accept(parser)
    assert parser.format_help() == text


@pytest.mark.parametrize(
    "tool, arguments, said",
    [
        ("runqlat", ["-c", "/sys/fs/cgroup"], "libbpf-tools' -c CGROUP is --cgroup here"),
        ("funccount", ["-D", "x"], "bcc's -D is --ebpf here"),
        ("gethostlatency", ["-xl", "libc"], "libbpf-tools' -l FILE is not needed here"),
    ],
)
def test_an_error_says_what_stands_for_an_option(
    tool: str, arguments: list[str], said: str
) -> None:
    result = in_fork(tool, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


def test_an_option_that_is_ignored_says_so() -> None:
    result = in_fork("opensnoop", "--buffer-pages", "64", "-b", "8", "--ebpf")
    assert result.returncode == 0 and "struct event" in result.stdout
    assert result.stderr.splitlines() == [
        f"opensnoop: {name} is ignored. The ring buffer has a fixed size of 8 MiB."
        for name in ("--buffer-pages", "-b")
    ]
    assert in_fork("runqlen", "-H", "--ebpf").stderr == ""


def test_the_table_is_not_read_for_options_of_ours() -> None:
    def reads(*options: str) -> bool:
        result = subprocess.run(
            ["/usr/bin/python3", "-X", "importtime", TOOLS / "opensnoop", *options, "--ebpf"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "pytools.tool.arguments" in result.stderr
        return "pytools.tool.peers" in result.stderr

    assert not reads("-TU", "-p1", "--uid=0", "-ef", "O_RDWR")
    assert reads("--extended_fields")
