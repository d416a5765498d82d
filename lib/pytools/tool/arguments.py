"""The command line: the parser, the options that many tools share, the types of arguments."""
from __future__ import annotations

import argparse
import re
import sys

from pytools import __version__
from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import did_you_mean
from pytools.show.output import complain
from pytools.tool import filters

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, Sequence


__all__ = [
    "Formatter", "MOST_SECONDS", "Parser", "add_failed", "add_filters", "add_sockets",
    "add_summary", "decimal", "error_number", "not_negative", "number_from", "parser", "pid",
    "pids", "positive", "user",
]  # fmt: skip


DURATION = ("-d", "--duration")
EXEC = "--exec"
MOST_SECONDS = 10**9  # some 30 years


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line. ``tool`` is whose options it reads, if it is a tool's;
    ``intermixed`` says that options may stand between arguments."""

    tool: Any = None
    intermixed = False

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        # Before Python 3.13, "--name=--" gave an option an empty list, of no type, as its value.
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:
            value = self._get_value(action, "--")
            self._check_value(action, value)
            return value
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        complain(f"{self.prog}: {message} (see {self.prog} --help)")
        raise SystemExit(2)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        # First of all: argparse takes the value of such an option for an argument, and blames that.
        given = list(sys.argv[1:] if args is None else args)
        given, command = self.command(given)
        unknown = self.unknown_option(given)
        if unknown is not None and self.tool is not None:
            from pytools.tool import peers

            peers.accept(self)
            unknown = self.unknown_option(given)
        if unknown is not None:
            hint = self.instead(unknown)
            self.error(f"there is no option {unknown}" + (f": {hint}" if hint else ""))
        options: Any
        if self.intermixed:
            options = super().parse_intermixed_args(given, namespace)
        else:
            options = super().parse_args(given, namespace)
        if command:
            options.command = command
        return options

    def command(self, given: list[str]) -> tuple[list[str], list[str]]:
        """The words without --exec, and the command behind that, whatever it looks like: argparse
        would take a -- of the command's for its own."""
        if EXEC not in self._option_string_actions:
            return given, []
        for place, word in enumerate(given):
            if word == "--":
                break
            option, equals, first = word.partition("=")
            if option == EXEC:
                command = [first] * bool(equals) + given[place + 1 :]
                if not command:
                    self.error(f"argument {EXEC}: a command must follow")
                return given[:place], command
        return given, []

    def unknown_option(self, given: Sequence[str]) -> str | None:
        """The first of these words that should be an option and is none; of several letters
        behind one hyphen, the first such letter."""
        known = self._option_string_actions
        arguments = [action for action in self._actions if not action.option_strings]
        ends_at_argument = any(action.nargs == argparse.REMAINDER for action in arguments)
        values = 0  # that the option before takes
        for word in given:
            if values:
                values -= 1
                continue
            if word == "--" or (ends_at_argument and not word.startswith("-")):
                return None
            if not word.startswith("-") or word == "-" or self._is_number(word):
                continue
            option, equals, _ = word.partition("=")
            options = [option] if word.startswith("--") else [f"-{letter}" for letter in word[1:]]
            for place, option in enumerate(options, 2):
                action = known.get(option)
                if action is None:
                    return option
                if action.default == argparse.SUPPRESS:  # --help and --version end it
                    return None
                if action.nargs != 0:
                    inline = equals if word.startswith("--") else word[place:]
                    values = 0 if inline else 1
                    break
        return None

    def _is_number(self, word: str) -> bool:
        """Whether argparse takes a word with a hyphen for a number below zero."""
        digits = word[1:].replace(".", "", 1)
        return digits.isdigit() and not self._has_negative_number_optionals

    def instead(self, option: str) -> str:
        """What stands here for an option that does not exist, as the rest of a sentence; "" where
        nothing is like it."""
        from pytools.tool import peers  # not for those who know the options

        known = peers.hint(self.prog, option)
        if known:
            return known
        names = [name for name in self._option_string_actions if name.startswith("--")]
        return did_you_mean(option, names, 0.7)


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of 80 columns. To ask the terminal for its width, argparse imports
    five modules, and it does so for every option that is added."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=78)


def parser(
    description: str,
    intervals: bool = False,
    traces: bool = True,
    schema: type[argparse.Action] | None = None,
    duration: Sequence[str] = DURATION,
    csv: bool = True,
) -> Parser:
    """A parser with the options that all tools share. ``description`` is the
    tool's docstring: a line that says what it does, then text and examples.
    ``intervals`` adds ``[interval [count]]``; a tool that ``traces`` nothing has none
    of the options about programs, but those about time if it has intervals. ``schema`` is what
    --schema does. ``duration`` are the names of that option: a tool whose -d is something else in
    bcc leaves out the letter. ``csv`` says whether the tool has rows that --csv can print."""
    first, _, rest = description.strip().partition("\n")
    made = Parser(
        description=first,
        epilog=rest.strip("\n"),
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    if intervals:
        made.add_argument(
            "interval", nargs="?", type=positive, help="seconds between summaries (one at the end)"
        )
        made.add_argument(
            "count", nargs="?", type=number_from(1), help="number of summaries (no limit)"
        )
    shared = made.add_argument_group("options of all tools")
    if traces or intervals:
        shared.add_argument(
            *duration, metavar="SECONDS", type=not_negative,
            help="end after so many seconds; 0: attach, read once, end",
        )  # fmt: skip
    form = shared.add_mutually_exclusive_group()
    form.add_argument(
        "--json", dest="form", action="store_const", const="json", default="text",
        help="print JSON lines",
    )  # fmt: skip
    if csv:
        form.add_argument("--csv", dest="form", action="store_const", const="csv", help="print CSV")
    if traces:
        shared.add_argument(
            "--ebpf", action="store_true", help="print the rendered BPF program and exit"
        )
        shared.add_argument(
            "--no-cache", action="store_true", help="compile anew, and keep nothing on disk"
        )
    if traces or intervals:
        shared.add_argument(
            "-v", "--verbose", action="store_true",
            help="say on standard error what is rewritten, attached and cached"
            if traces else "say on standard error when it has begun",
        )  # fmt: skip
    if schema is not None:
        shared.add_argument(
            "--schema", nargs=0, action=schema, help="print names, types and units as JSON and exit"
        )
    shared.add_argument("--version", action="version", version=f"pytools {__version__}")
    return made


def add_filters(
    made: Parser,
    tid: str = "",
    mntns: bool = False,
    uid: bool = False,
    ppid: str = "",
    name: bool = False,
    kinds: bool = False,
    maps: bool = False,
) -> None:
    """Add the options that say which tasks a tool is about (``filters.tasks``):
    several given, a task must pass them all. ``tid`` and ``ppid`` are the letters of
    the options for threads and for the parent process, where the tool has them; ``kinds``
    adds those for kernel threads and for the others, ``maps`` bcc's for pinned maps."""
    group = made.add_argument_group("filters, in the kernel")
    group.add_argument("-p", "--pid", metavar="PID[,PID]", type=pids, help="only these processes")
    if tid:
        group.add_argument(tid, "--tid", metavar="TID[,TID]", type=pids, help="only these threads")
    if ppid:
        group.add_argument(ppid, "--ppid", type=pid, help="only processes that this one started")
    if uid:
        group.add_argument("-u", "--uid", type=user, help="only this user, by number or name")
    if name:
        group.add_argument(
            "-n", "--name", dest="name_part", metavar="NAME",
            help="only processes with NAME in their name (a shell pattern)",
        )  # fmt: skip
    if kinds:
        either = group.add_mutually_exclusive_group()
        either.add_argument(
            "-u", "--user-threads-only", dest="kind", action="store_const", const="user",
            help="no kernel threads",
        )  # fmt: skip
        either.add_argument(
            "-k", "--kernel-threads-only", dest="kind", action="store_const", const="kernel",
            help="only kernel threads",
        )  # fmt: skip
    group.add_argument(
        "--comm", metavar="NAME",
        help="only processes of this name, as ps has it (a shell pattern)",
    )  # fmt: skip
    group.add_argument(
        "--thread", metavar="NAME", help="only threads of this name (a shell pattern)"
    )
    group.add_argument("--cgroup", metavar="PATH", help="only tasks in this cgroup or below it")
    group.add_argument(
        "--pidns", metavar="PID", type=pid,
        help="only the PID namespace (the container) of this process",
    )  # fmt: skip
    if mntns:
        group.add_argument(
            "--mntns", metavar="PID", type=pid, help="only the mount namespace of this process"
        )
    if maps:
        group.add_argument(
            "--cgroupmap", metavar="MAPPATH", help="only tasks in the cgroups of this pinned map"
        )
        group.add_argument(
            "--mntnsmap", metavar="MAPPATH",
            help="only tasks in the mount namespaces of this pinned map",
        )  # fmt: skip
    group.add_argument(
        EXEC, dest="command", metavar="COMMAND", nargs=argparse.PARSER,
        help="run this command, and trace only it and its children (the last option)",
    )  # fmt: skip
    made.set_defaults(wanted=filters.NO_FILTER)


def add_sockets(
    made: Parser,
    lports: str = "",
    rports: str = "",
    ports: str = "",
    laddr: str = "",
    raddr: str = "",
    sockets: bool = True,
    netns: str = "",
) -> None:
    """Add the options that say which sockets or packets a tool is about
    (``filters.sockets``). The others are the letters of the options for local, remote
    and any ports, for the local and the remote address, and for the namespace, where the tool has
    them. Without ``sockets`` (of packets), the namespace is no filter, but for the tool to go to
    (``options.namespace``)."""
    group = made.add_argument_group("filters of sockets, in the kernel")
    for letter, name, text in (
        (lports, "lport", "these local ports"),
        (rports, "rport", "these remote ports"),
        (ports, "port", "these ports"),
    ):
        if letter:
            group.add_argument(
                letter, f"--only-{name}", dest=f"{name}s", metavar="PORT[,PORT]",
                type=port_list, help=f"only {text}",
            )  # fmt: skip
    for letter, name, text in ((laddr, "laddr", "local"), (raddr, "raddr", "remote")):
        if letter:
            group.add_argument(
                letter, f"--only-{name}", dest=name, metavar="ADDRESS",
                help=f"only this {text} address",
            )  # fmt: skip
    family = group.add_mutually_exclusive_group()
    for version in (4, 6):
        family.add_argument(
            f"-{version}", f"--ipv{version}", dest="ip", action="store_const", const=version,
            help=f"only IPv{version}",
        )  # fmt: skip
    group.add_argument(
        *filter(None, [netns]), "--netns", dest="netns" if sockets else "namespace",
        metavar="NAME|PID", help="only this network namespace, by name or by one of its processes",
    )  # fmt: skip
    made.set_defaults(wanted=filters.NO_FILTER)


def add_failed(made: Parser, what: str) -> None:
    """Add the option of tools that can leave out what succeeds: ``what`` is the plural of what
    they print. The template has ``$FAILED_ONLY`` for it."""
    made.add_argument("-x", "--failed", action="store_true", help=f"only {what} that fail")


def add_summary(made: Parser, *aliases: str) -> None:
    """Add the option of tools that print histograms. ``aliases`` are what bcc's
    tool of that name calls it."""
    made.add_argument(
        *aliases, "--summary", dest="summary", action="store_true",
        help="add total, average, maximum and percentiles to each histogram",
    )  # fmt: skip


# Argument types.


def number_from(least: int, most: int = 2**63 - 1) -> Callable[[str], int]:
    """An argument that is a whole number from ``least`` to ``most``."""

    def number(text: str) -> int:
        value = int(text) if text.isascii() and text.lstrip("+-").isdigit() else None
        if value is None or not least <= value <= most:
            any_more = most == 2**63 - 1 and (value is None or value < least)
            limit = f"from {least} on" if any_more else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limit}")
        return value

    return number


pid = number_from(1, 2**22)


def pids(text: str) -> list[int]:
    """An argument that is a list of pids, with commas between them."""
    return [pid(part) for part in text.split(",")]


def port_list(text: str) -> list[int]:
    """An argument that is a list of ports, with commas between them."""
    return [number_from(1, 65535)(part) for part in text.split(",")]


def user(text: str) -> int | str:
    """An argument that is a user, by number or by name: which one that is, depends on the
    process (``users.user_number``)."""
    if text.isascii() and text.isdigit():
        return number_from(0, 2**32 - 2)(text)
    return text


def error_number(text: str) -> int:
    """An argument that is an error, by number or by name."""
    import errno

    known = {name: number for number, name in errno.errorcode.items()}
    return known.get(text) or number_from(1, 4095)(text)


def positive(text: str) -> float:
    """An argument that is a number greater than zero."""
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 is too small")
    return value


def not_negative(text: str) -> float:
    """An argument that is a number, zero or more; at most MOST_SECONDS."""
    value = decimal(text)
    if value is None or not 0 <= value <= MOST_SECONDS:
        limit = f"to {MOST_SECONDS}" if value is not None and value > 0 else "on"
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 {limit}")
    return value


def decimal(text: str) -> float | None:
    """The number that a text is, as C and JSON write it; None if it is none. Python's float()
    takes blanks, underscores, "nan" and the digits of other scripts as well."""
    number = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
    return float(text) if re.fullmatch(number, text, re.ASCII) else None
