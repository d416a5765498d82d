#!/usr/bin/python3
r"""Write the manual pages: man/pages/TOOL.8 with what the tool's own --help knows.

In a page, the line

    .Nd              gets what the tool declares to show,
    .\" SYNOPSIS    becomes the synopsis,
    .\" OPTIONS     the list of options, each with the sentence of its help,
    .\" FIELDS      what the tool declares of its fields: heading, key, sentences.

A page whose tool bcc or libbpf-tools has, too, gets a section COMPARED WITH BCC before its
caveats, or before what else to see (``tool/peers.py``).

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

from pytools.bt.tracing import SpecifierTool  # noqa: E402
from pytools.collection import catalogue  # noqa: E402
from pytools.tool.definition import Tool  # noqa: E402
from pytools.tool.events import EventTool  # noqa: E402
from pytools.tool.fields import TEXT_ONLY  # noqa: E402
from pytools.tool.histograms import HistogramTool  # noqa: E402
from pytools.tool.listings import ListingTool  # noqa: E402
from pytools.tool.peers import DIFFERENCES, IGNORED, MOVED, Difference  # noqa: E402
from pytools.tool.stacks import StackTool  # noqa: E402
from pytools.tool.tables import TableTool  # noqa: E402

# Behind the sentence of an option that many tools have, by its long name.
MORE = {
    "--cgroup": """\
.Ar PATH
is a directory of a cgroup file system: of version 2, or of a version 1 hierarchy
that has a controller.
""",
    "--pid": "Separate several by commas.\n",
    "--tid": "Separate several by commas.\n",
    "--comm": """\
.Ar NAME
is what
.Ql ps -o comm=
shows for the process: the name of its first thread, of which the kernel keeps 15 bytes.
It may be a shell pattern with *, ? and [...], as in
.Ql nginx-* .
""",
    "--uid": """\
With
.Fl p ,
a name is that of a user of the process: in its own root directory and user namespace.
If the process does not know it, it is that of a user here.
""",
    "--thread": """\
A thread has the name of its process until it gets its own, as threads of Java do.
.Ar NAME
may be a shell pattern, as with
.Fl \\-comm .
""",
    "--thread-names": """\
A flame graph has the threads of a name above their process.
Otherwise, all threads of a process are together.
""",
    "--pidns": """\
Any process of a container stands for the container.
Processes in namespaces below that one are not included.
""",
    "--mntns": "Any process of a container selects the container.\n",
    "--cgroupmap": """\
.Ar MAPPATH
is a hash map that another program has pinned in a BPF file system, with keys of 8 bytes: the
inode numbers of the directories of cgroups of version 2.
Cgroups below these are not included.
The map may change while the tool runs.
""",
    "--mntnsmap": """\
The same with the inode numbers of mount namespaces, as
.Ql stat -Lc %i /proc/PID/ns/mnt
prints them, as keys of 8 bytes.
""",
    "--exec": """\
What stands behind
.Fl \\-exec
is the command with its arguments.
The command is held until everything is attached.
Children are followed from their first moment, in whatever session or cgroup they are.
Processes that others start for the command (a daemon, systemd, a container engine) are not its
children.
.Pp
The tool ends when the command and all its children have ended, and prints what is left then.
If the tool ends before, it sends SIGTERM to the command, but not to the children.
If the tool is killed, the kernel does that, unless the command has become another user's.
The exit status is the tool's own; a message says if the command failed.
A command that cannot be run is an error of the tool, with status 1.
.Pp
The command has the tool's standard streams, working directory, environment and limits, and its
.Em credentials :
if the tool runs as root, so does the command.
.Ql --exec setpriv --reuid=USER --init-groups COMMAND
or
.Ql --exec sudo -u USER COMMAND
runs it as another user.
Until the kernel has found the program, its process has the tool's name.
.Fl p
is not allowed with
.Fl \\-exec ,
and the tool has to run in the first PID namespace, not in a container.
""",
    "--container": """\
A container is recognized by the name of its cgroup; its id is shortened to 12 digits,
as Docker, Podman and Kubernetes do.
A task in no container has the path of its cgroup of version 2.
""",
    "--summary": """\
Total, average and maximum are exact.
The percentiles are estimated from the buckets, as if the values were spread evenly
within each bucket.
Each is off by less than the width of its bucket, which is less than a factor of two in
a log2 histogram.
CSV has one line for the summary instead of the lines for the buckets.
""",
    "--svg": """\
The file is one SVG document, which a browser shows without any other file or server.
A box is a function, with its callers below it; its width is the share of the stacks that
have the function at that place.
The colour shows whether it is a function of a process (red to yellow) or of the kernel
(blue), a function without a name (grey), or no function (green).
A click on a box, or Enter, makes the box as wide as the window; Escape takes that back.
.Dq /
goes to the search field: boxes that match its regular expression are marked, and their
share is shown.
With
.Fl f ,
.Fl \\-json
or
.Fl \\-csv ,
the stacks are printed as well.
""",
    "--speedscope": """\
Open it at
.Lk https://www.speedscope.app .
""",
    "--stack-storage-size": """\
Each stack takes 1 KiB of the kernel's memory.
There is half as much room again for stacks whose place is taken by another stack.
""",
    "--duration": "Fractions are allowed.\n",
    "--no-cache": "Otherwise, compiled programs are kept in\n.Pa /var/cache/pytools .\n",
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
    if action.nargs == "?":
        return f" Op Ar {action.metavar or action.dest.upper()}"
    if action.nargs == argparse.PARSER:
        return f" Ar {action.metavar} ..."
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
        # One "Fl" is for all that follow it, up to an "Ar".
        more = flags[1:] if " Ar " in " ".join(flags) else [each[3:] for each in flags[1:]]
        lines.append(f".Op {' | '.join([flags[0], *more])}{repeated}")
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


# Said of all tools that print events, tables or stacks.
PROGRAMS = """\
.Pp
JSON and CSV have
.Va ts
and what stands above in lower case, whatever the options are.
A value that is not known is null in JSON and empty in CSV.
"""
EVENTS = """\
In JSON, a byte that is not UTF\\-8 stands as \\eudc80 to \\eudcff, which
.Ql .encode(\\(dqutf\\-8\\(dq, \\(dqsurrogateescape\\(dq)
of Python turns back; in text and CSV it is an escape such as
.Ql \\exff ,
and so are control characters, other invisible characters and backslashes.
If events were lost, JSON ends with an object that has
.Va lost .
"""
STACKS = """\
If something was lost, JSON ends with an object that has
.Va lost .
"""
HISTOGRAMS = """\
.Pp
In JSON, a histogram has
.Va ts ,
.Va tool ,
.Va key
.Pq empty if all is in one histogram ,
.Va unit ,
.Va scale ,
.Va buckets
.Pq Va lo , hi , count
and
.Va samples .
With
.Fl \\-summary ,
it also has
.Va total , average , max
and
.Va percentiles .
It has
.Va lost
if samples were lost: how many, of all histograms of the interval together.
"""
# What opens a manual page elsewhere: open(2).
REFERENCE = re.compile(r"\s*\b([a-z_]\w*)\((\d)\)([.,;:]*)\s*")


def text(sentences: str) -> str:
    """Plain sentences in mdoc: each on a line of its own, names of manual pages marked."""
    made = re.sub(r"(?<=[.:]) +(?=[A-Z]|bcc's )", "\n", " ".join(sentences.split()))
    made = made.replace("\\", "\\e").replace("-", "\\-")
    made = REFERENCE.sub(
        lambda found: f"\n.Xr {found[1]} {found[2]} {found[3]}".rstrip() + "\n", made
    )
    lines = [line.strip() for line in made.split("\n") if line.strip()]
    return "".join(
        ("\\&" if line[0] in ".'" and not line.startswith(".Xr ") else "") + line + "\n"
        for line in lines
    )


def field_tag(heading: str, key: str) -> str:
    """The heading of a column, and what programs call it where that is another name."""
    if not heading:
        return f".It Va {key}\n"
    heading = heading.replace(" ", "\\ ").replace("-", "\\-")
    return f".It {heading}" + (f" , Va {key}\n" if key and key != heading.lower() else "\n")


def declared(tool: Tool) -> str:
    """The list of the fields of a tool, and what programs get."""
    lines = [".Bl -tag -width Ds\n"]
    if isinstance(tool, HistogramTool):
        heading = tool.label or " , ".join(tool.units)
        lines.append(f".It {heading}\n{text(tool.about_values)}")
        if tool.scale == "log2":
            lines.append("The row has the values from the smallest to the largest.\n")
        lines.append(f".It count\n{text(tool.about_counts)}")
        for each in tool.keys:
            lines.append(f".It {each.name}\n")
            lines.append(text(each.about or f"The {each.name} that the histogram below it is of."))
            if each.option:
                lines.append(f"It is shown with\n.{flag(max(each.option, key=len))} .\n")
        return "".join([*lines, ".El\n", HISTOGRAMS])
    assert isinstance(tool, (EventTool, ListingTool, SpecifierTool, StackTool, TableTool))
    seen: set[str] = set()
    for field in [*tool.fields, *getattr(tool, "table", ())]:
        key = "" if field.key == TEXT_ONLY else field.name
        if not field.about or (field.heading or key) in seen:
            continue
        seen.add(field.heading or key)
        lines.append(field_tag(field.heading, key) + text(field.about))
        if field.option:
            also = " or CSV" if field.optional else ""
            where = f"It is not in JSON{also} without it.\n" if field.optional else ""
            lines.append(f"It is shown with\n.{flag(max(field.option, key=len))} .\n{where}")
    more = EVENTS if isinstance(tool, (EventTool, SpecifierTool)) else ""
    if isinstance(tool, StackTool):
        more = STACKS
    return "".join([*lines, ".El\n", PROGRAMS, more])


# An option by its name, within a sentence.
OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)([.,;:]?) ?")


def with_options(sentences: str) -> str:
    """Plain sentences in mdoc, with the options in them as such."""
    lines = []
    for line in text(sentences).splitlines():
        plain = line.replace("\\-", "-")
        made = OPTION.sub(lambda found: f"\n.{flag(found[1])} {found[2]}".rstrip() + "\n", plain)
        lines += [
            part if part.startswith(".Fl ") else part.strip().replace("-", "\\-")
            for part in made.splitlines()
            if part.strip()
        ]
    return "".join(f"{line}\n" for line in lines)


def other_option(each: Difference) -> str:
    """What becomes of an option of another tool, as an item of a list."""
    flags = " , ".join(flag(name)[3:] for name in each.names)
    takes = f" Ar {each.argument}" if each.argument else ""
    ours = f".{flag(each.ours)}" if each.ours else ""
    if each.how == MOVED:
        said = f"Use\n{ours} .\n" if ours else "It is not needed.\n"
    elif each.how == IGNORED:
        said = "It is accepted and ignored, with a message.\n"
    else:
        said = f"It is accepted, and means\n{ours} .\n" if ours else "It is accepted.\n"
    return f".It Fl {flags}{takes} Pq {each.of}\n{said}{with_options(each.about)}"


def compared(tool: str) -> str:
    """The section on how the tool differs from those of its name; empty if there is none."""
    differences = DIFFERENCES.get(tool)
    if not differences:
        return ""
    lines = [
        ".Sh COMPARED WITH BCC\n",
        "The options of bcc's tool of the same name are accepted and mean the same here.\n",
    ]
    options = [each for each in differences if each.theirs]
    if options:
        lines.append(
            "These options of that tool, or of libbpf-tools', have another name or none:\n"
        )
        lines += [".Bl -tag -width Ds\n", *map(other_option, options), ".El\n"]
    output = [each for each in differences if not each.theirs]
    if output:
        lines.append(".Pp\n" if options else "")
        lines.append("What is printed differs in this:\n.Bl -bullet\n")
        lines += [f".It\n{with_options(each.about)}" for each in output]
        lines.append(".El\n")
    return "".join(lines)


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
    if parser.tool:  # type: ignore[attr-defined]
        about = parser.tool.about.replace("-", "\\-")  # type: ignore[attr-defined]
        head = head.replace(".Nd\n", f".Nd {about}\n")
    if '.\\" FIELDS\n' in rest:
        rest = rest.replace('.\\" FIELDS\n', declared(parser.tool))  # type: ignore[attr-defined]
    for place in (".Sh CAVEATS\n", ".Sh SEE ALSO\n"):
        if place in rest:
            rest = rest.replace(place, compared(tool) + place)
            break
    return head + options(parser, more) + section + rest


def main() -> int:
    differ = []
    pages = {path.stem: generate(path.stem) for path in (ROOT / "man" / "pages").glob("*.8")}
    for tool in catalogue.tools(str(ROOT / "tools")):
        pages.update((name, f".so man8/{tool.name}.8\n") for name in tool.names)
    for name, text in sorted(pages.items()):
        target = ROOT / "man" / "man8" / f"{name}.8"
        if not target.exists() or target.read_text() != text:
            differ.append(target.name)
            if "--check" not in sys.argv:
                target.write_text(text)
    if "--check" in sys.argv and differ:
        print(f"not as generated: {', '.join(differ)}; run man/generate.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
