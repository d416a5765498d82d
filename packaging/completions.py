"""Write the completions of bash and zsh into a folder, from the tools' own parsers."""
from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from pytools.tool import arguments  # noqa: E402
from pytools.collection import catalogue  # noqa: E402

# How an option's argument is completed, by its type or its name in the help; others aren't.
PIDS, USERS, FILES, FOLDERS = "pids", "users", "files", "folders"
KINDS: dict[Any, str] = {
    arguments.pid: PIDS,
    arguments.pids: PIDS,
    arguments.user: USERS,
    "FILE": FILES,
}
CGROUPS = {"--cgroup"}

BASH = r"""# bash completion for pytools. Written by packaging/completions.py.

_pytools_options()
{
	case $1 in
@OPTIONS@
	esac
}

# What stands behind an option: a kind of argument, or the words it may be.
_pytools_argument()
{
	case $1:$2 in
@ARGUMENTS@
	esac
}

_pytools_tools='@TOOLS@'

_pytools()
{
	local tool=${COMP_WORDS[0]##*/} current=${COMP_WORDS[COMP_CWORD]} words kind
	local previous=${COMP_WORDS[COMP_CWORD - 1]} i

	COMPREPLY=()
	if [ "$tool" = pytools ]; then
		for ((i = 1; i < COMP_CWORD; i++)); do
			case ${COMP_WORDS[i]} in
			-*) ;;
			*) tool=${COMP_WORDS[i]}; break ;;
			esac
		done
		if [ "$tool" = pytools ]; then
			words="$_pytools_tools doctor $(_pytools_options pytools)"
			COMPREPLY=($(compgen -W "$words" -- "$current"))
			return
		fi
	fi
	kind=$(_pytools_argument "$tool" "$previous")
	case $kind in
	pids) COMPREPLY=($(cd /proc && compgen -G '[0-9]*' | compgen -W "$(cat)" -- "$current")) ;;
	users) COMPREPLY=($(compgen -u -- "$current")) ;;
	files) COMPREPLY=($(compgen -f -- "$current")) ;;
	folders) COMPREPLY=($(compgen -d -- "$current")) ;;
	none) ;;
	?*) COMPREPLY=($(compgen -W "$kind" -- "$current")) ;;
	*)
		case $current in
		-*) COMPREPLY=($(compgen -W "$(_pytools_options "$tool")" -- "$current")) ;;
		esac
		;;
	esac
}

complete -F _pytools $_pytools_tools pytools
"""

ZSH = r"""#compdef pytools @TOOLS@
# zsh completion for pytools. Written by packaging/completions.py.

_pytools_tools() {
	local -a tools
	tools=(
@DESCRIBED@
	)
	_describe -t tools tool tools
}

_pytools_arguments() {
	case $1 in
@ARGUMENTS@
	esac
}

local tool=${service:t}
if [[ $tool == pytools ]]; then
	local curcontext=$curcontext state line
	_arguments -C '--json[print JSON lines]' '--version[print the version]' \
		'1:tool:_pytools_tools' '*::argument:->arguments' && return
	[[ $state == arguments ]] || return 1
	tool=$words[1]
fi
_pytools_arguments $tool
"""


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings]


def kind(action: argparse.Action) -> str:
    """What completes an option's argument: a kind, or its words; empty without one."""
    if action.nargs == 0:
        return ""
    if action.choices:
        return " ".join(map(str, action.choices))
    if set(action.option_strings) & CGROUPS:
        return FOLDERS
    return KINDS.get(action.type, KINDS.get(action.metavar, "none"))


def bash(parsers: dict[str, argparse.ArgumentParser]) -> str:
    named, taken = [], []
    for tool, parser in parsers.items():
        names = " ".join(name for action in options(parser) for name in action.option_strings)
        named.append(f"\t{tool}) echo '{names}' ;;")
        for action in options(parser):
            if kind(action):
                pattern = " | ".join(f"{tool}:{name}" for name in action.option_strings)
                taken.append(f"\t{pattern}) echo '{kind(action)}' ;;")
    return filled(BASH, OPTIONS=named, ARGUMENTS=taken, TOOLS=tools(parsers))


def zsh(parsers: dict[str, argparse.ArgumentParser], described: list[catalogue.Tool]) -> str:
    taken = []
    for tool, parser in parsers.items():
        if tool != "pytools":
            lines = [f"\t\t{quoted(each)} \\" for a in options(parser) for each in zsh_option(a)]
            taken += [f"\t{tool}) _arguments -s \\", *lines, "\t\t'*:argument:' ;;"]
    sentences = [f"\t\t{quoted(tool.name + ':' + tool.description)}" for tool in described]
    sentences.append("\t\t'doctor:Say what this machine offers, and which tools work on it.'")
    return filled(ZSH, TOOLS=tools(parsers), DESCRIBED=sentences, ARGUMENTS=taken)


def zsh_option(action: argparse.Action) -> list[str]:
    """The specifications of _arguments for an option's names, which exclude each other."""
    repeated = isinstance(action, argparse._AppendAction)
    before = "*" if repeated else f"({' '.join(action.option_strings)})"
    text = (action.help or "") % {"default": action.default, "prog": ""}
    text = re.sub(r"([\[\]:\\])", r"\\\1", text)
    actions = {
        "": "", PIDS: "_pids", USERS: "_users", FILES: "_files", FOLDERS: "_files -/", "none": " ",
    }  # fmt: skip
    does = actions.get(kind(action), f"({kind(action)})")
    label = re.sub(r"\W+", " ", str(action.metavar or action.dest)).strip().lower()
    after = f":{label}:{does}" if does else ""
    return [f"{before}{name}[{text}]{after}" for name in action.option_strings]


def tools(parsers: dict[str, Any]) -> str:
    return " ".join(name for name in parsers if name != "pytools")


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def filled(text: str, **parts: str | list[str]) -> str:
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part if isinstance(part, str) else "\n".join(part))
    return text


def main() -> None:
    described = catalogue.tools(str(ROOT / "tools"))
    described = sorted(
        tool._replace(name=name) for tool in described for name in (tool.name, *tool.names)
    )
    paths = {tool.name: ROOT / "tools" / tool.name for tool in described}
    paths["pytools"] = ROOT / "sbin" / "pytools"
    parsers = {name: catalogue.load(str(path)).parser for name, path in paths.items()}
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytools.bash").write_text(bash(parsers))
    (folder / "_pytools").write_text(zsh(parsers, described))


if __name__ == "__main__":
    main()
