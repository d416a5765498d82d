#!/usr/bin/python3
r"""Write the manual pages: man/pages/TOOL.8 with what the tool's own --help knows.

In a page, the line

    .\" SYNOPSIS    becomes the synopsis,
    .\" OPTIONS     the list of options, each with the sentence of its help.

What follows ``.\" --name`` below that line is put behind the sentence of that
option. ``man/generate.py`` writes man/man8, ``man/generate.py --check`` exits with 1
where a page there is another.
"""
from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from pytools.collection import catalogue  # noqa: E402

# Behind the sentence of an option that many tools have, by its long name.
MORE = {
    "--cgroup": """\
.Ar PATH
is a folder of a cgroup file system, of version 2 or of a version 1 hierarchy
that has a controller.
""",
    "--pid": "Several are separated by commas.\n",
    "--tid": "Several are separated by commas.\n",
    "--comm": "The name is the whole name, of which the kernel keeps 15 bytes.\n",
    "--pidns": """\
A process in a container stands for the container; those in namespaces below it
are not counted in.
""",
    "--mntns": "Such as those of its container.\n",
    "--container": """\
A container is known by the name of its cgroup: an id is shortened to 12 digits,
as Docker, Podman and Kubernetes do; a task in none has the path of its cgroup of
version 2.
""",
    "--summary": """\
Total, average and maximum are exact.
The percentiles are estimated from the buckets, within which values are taken to
be spread evenly: each is off by less than the width of its bucket, that is by
less than a factor of two in a log2 histogram.
CSV has one line for the summary in place of those for the buckets.
""",
    "--svg": """\
It is one SVG document that a browser shows without any other file or server: the
width of a box is the share of the stacks that have the function at that place, with
its callers below it.
Colours tell functions of processes (red to yellow), of the kernel (blue), without a
name (grey) and what is no function (green).
A click on a box, or Enter, makes it as wide as the window; Escape takes that back.
.Dq /
goes to the search field, whose regular expression marks boxes and says their share.
.Fl f ,
.Fl \\-json
and
.Fl \\-csv
print as well.
""",
    "--speedscope": """\
It is for
.Lk https://www.speedscope.app .
""",
    "--stack-storage-size": """\
Each takes 1 KiB of the kernel's memory; there is half as much again for stacks
whose place is taken by another.
""",
    "--duration": "Fractions are allowed.\n",
    "--no-cache": "Images are kept in\n.Pa /var/cache/pytools .\n",
}


def load(tool: str) -> argparse.ArgumentParser:
    """The parser of a tool."""
    path = ROOT / ("sbin" if tool == "pytools" else "tools") / tool
    parser: argparse.ArgumentParser = catalogue.load(str(path)).parser
    return parser


def flag(option: str) -> str:
    return "Fl " + option[1:].replace("-", "\\-")


def argument(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    return f" Ar {action.metavar or action.dest.upper()}"


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What is a tool's own comes first, what all have comes last."""
    order = [group for group in parser._action_groups if group.title != "options of all tools"]
    order += [group for group in parser._action_groups if group not in order]
    found = [action for group in order for action in group._group_actions]
    return sorted(found, key=lambda action: action.dest == "help")


def synopsis(parser: argparse.ArgumentParser) -> str:
    lines = []
    shown: set[argparse.Action] = set()
    for action in actions(parser):
        if not action.option_strings or action.dest in ("help", "version") or action in shown:
            continue
        together = [action]
        for group in parser._mutually_exclusive_groups:
            if action in group._group_actions:
                together = group._group_actions
        shown.update(together)
        flags = [flag(each.option_strings[0]) + argument(each) for each in together]
        repeated = " ..." if isinstance(action, argparse._AppendAction) else ""
        lines.append(f".Op {' | '.join([flags[0], *[each[3:] for each in flags[1:]]])}{repeated}")
    positional = [action for action in parser._actions if not action.option_strings]
    if [action.dest for action in positional] == ["interval", "count"]:
        lines.append(".Op Ar interval Op Ar count")
    else:
        for action in positional:
            optional = action.nargs in ("?", "*", argparse.REMAINDER)
            lines.append((".Op Ar " if optional else ".Ar ") + str(action.metavar or action.dest))
    return "".join(line + "\n" for line in lines)


def sentence(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("%%", "%")
    if text.startswith((".", "'")):
        text = "\\&" + text
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def options(parser: argparse.ArgumentParser, more: dict[str, str]) -> str:
    lines = [".Bl -tag -width Ds\n"]
    unknown = set(more) - {name for each in parser._actions for name in each.option_strings}
    if unknown:
        raise SystemExit(f"{parser.prog}: the page speaks of {min(unknown)}, which is no option")
    for action in actions(parser):
        if not action.option_strings:
            continue
        flags = [flag(each)[3:] for each in action.option_strings]
        lines.append(f".It Fl {' , '.join(flags)}{argument(action)}\n")
        help_text = (action.help or "") % {"default": action.default, "prog": parser.prog}
        if action.dest == "help":
            help_text = "print a summary of the options and exit"
        elif action.dest == "version":
            help_text = "print the version and exit"
        lines.append(sentence(help_text) + "\n")
        name = action.option_strings[-1]
        lines.append(more.get(name, MORE.get(name, "")))
    return "".join(lines) + ".El\n"


def generate(tool: str) -> str:
    """The manual page of a tool."""
    source = (ROOT / "man" / "pages" / f"{tool}.8").read_text()
    parser = load(tool)
    head, mark, rest = source.partition('.\\" OPTIONS\n')
    if not mark or '.\\" SYNOPSIS\n' not in head:
        raise SystemExit(f"man/pages/{tool}.8 has no place for the synopsis and the options")
    own, section, rest = rest.partition(".Sh ")
    parts = re.split(r'^\.\\" (--[\w-]+)\n', own, flags=re.M)
    more = dict(zip(parts[1::2], parts[2::2]))
    head = head.replace('.\\" SYNOPSIS\n', synopsis(parser))
    return head + options(parser, more) + section + rest


def main() -> int:
    differ = []
    for path in sorted((ROOT / "man" / "pages").glob("*.8")):
        text = generate(path.stem)
        target = ROOT / "man" / "man8" / path.name
        if not target.exists() or target.read_text() != text:
            differ.append(path.name)
            if "--check" not in sys.argv:
                target.write_text(text)
    if "--check" in sys.argv and differ:
        print(f"not as generated: {', '.join(differ)}; run man/generate.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
