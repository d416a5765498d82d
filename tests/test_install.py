"""make install and make uninstall: what is installed runs, is complete, and goes away."""
from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

import capture
from support import DECLARED, PATIENCE, ROOT, all_tools

pytestmark = [
    pytest.mark.host_only,
    pytest.mark.skipif(not shutil.which("make"), reason="needs make"),
]
NAMES = [*all_tools(), "pytools"]
LINKS = [name for tool in DECLARED.values() for name in tool.names]


def make(*arguments: str) -> None:
    subprocess.run(["make", "-s", "-C", ROOT, *arguments], check=True, stdout=subprocess.DEVNULL)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every path below a folder, with its size and the time of its last change."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("root")
    make("install", f"DESTDIR={folder}", "PREFIX=/usr")
    yield folder


def run(path: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [path, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False,
        **options,
    )  # fmt: skip


def test_tools_and_their_package_are_installed_as_they_are(root: Path) -> None:
    folder = root / "usr/share/pytools"
    links = {path.name: os.readlink(path) for path in folder.iterdir() if path.is_symlink()}
    assert links["xfsslower"] == "fsslower"
    assert sorted({p.name for p in folder.iterdir() if p.is_file()} - set(LINKS)) == all_tools()
    # killsnoop is a tool of its own.
    assert set(links) - set(all_tools()) == set(LINKS)
    for name in all_tools():
        text = (folder / name).read_text()
        assert (
            text.replace("#!/usr/bin/python3 -B\n", "#!/usr/bin/python3\n", 1)
            == (ROOT / "tools" / name).read_text()
        )
        assert os.access(folder / name, os.X_OK)
    library = ROOT / "lib" / "pytools"
    sources = [path for path in library.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    for path in sources:
        assert (folder / "pytools" / path.relative_to(library)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("way", ["itself", "link to it", "link to its folder"])
def test_an_installed_tool_runs_and_changes_nothing_below_usr(
    root: Path, tmp_path: Path, way: str
) -> None:
    tool = root / "usr/share/pytools/runqlen"
    if way == "link to it":
        (tmp_path / "queue").symlink_to(tool)
        tool = tmp_path / "queue"
    elif way == "link to its folder":
        (tmp_path / "share").symlink_to(tool.parent)
        tool = tmp_path / "share" / "runqlen"
    before = tree(root)
    # Compiled anew: bcc's child imports the package as well.
    result = run(tool, "--no-cache", "--json", "-m", "-d", "0.1")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["counted"] == "msecs"
    assert tree(root) == before


def test_without_bytecode_none_is_written(root: Path, tmp_path: Path) -> None:
    """As root may: whoever removes the package must not leave files behind."""
    make("install", f"DESTDIR={tmp_path}", "BYTECODE=no")
    assert not list(tmp_path.rglob("*.pyc"))
    before = tree(tmp_path)
    for command in (["usr/sbin/pytools"], ["usr/share/pytools/runqlat", "--no-cache", "-d", "0"]):
        assert run(tmp_path / command[0], *command[1:]).returncode == 0
    assert tree(tmp_path) == before
    # With bytecode there is some for each module, of a kind that no clock makes stale.
    compiled = {path.name.partition(".")[0] for path in root.rglob("*.pyc")}
    assert compiled == {path.stem for path in (ROOT / "lib" / "pytools").rglob("*.py")}
    assert {path.read_bytes()[4] for path in root.rglob("*.pyc")} == {3}  # PEP 552: checked hash


def test_the_command_finds_the_installed_tools(root: Path, tmp_path: Path) -> None:
    (tmp_path / "pytools").symlink_to(root / "usr/sbin/pytools")
    for command in (root / "usr/sbin/pytools", tmp_path / "pytools"):
        records = run(command, "--json").stdout.splitlines()
        assert sorted(json.loads(record)["name"] for record in records) == all_tools()
        assert run(command, "runqlen", "--version").stdout == run(command, "--version").stdout


def test_every_command_has_a_manual_page_that_can_be_packed(root: Path) -> None:
    folder = root / "usr/share/man/man8"
    assert sorted(path.stem for path in folder.iterdir()) == sorted(NAMES + LINKS)
    page = folder / "runqlat.8"
    packed = gzip.compress(page.read_bytes())
    if not shutil.which("mandoc"):
        pytest.skip("needs mandoc")
    (folder / "packed.8.gz").write_bytes(packed)
    try:
        text = run(Path("/usr/bin/mandoc"), str(folder / "packed.8.gz")).stdout
        assert text == run(Path("/usr/bin/mandoc"), str(page)).stdout and len(text) > 1000
    finally:
        (folder / "packed.8.gz").unlink()


def completed(root: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    name = os.path.basename(words[0])
    script = (
        f'. "{root}/usr/share/bash-completion/completions/{name}"; COMP_WORDS=("$@"); '
        'COMP_CWORD=$(($# - 1)); $(complete -p "${1##*/}" | sed "s/.*-F \\([^ ]*\\) .*/\\1/"); '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    result = subprocess.run(
        ["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.parametrize("name", NAMES)
def test_bash_completes_every_option_of_a_tool(root: Path, name: str) -> None:
    options = {o for action in capture.options(name) for o in action.option_strings}
    assert set(completed(root, name, "-")) == options | {"-h", "--help"}


def test_bash_completes_by_path_by_subcommand_and_by_kind(root: Path) -> None:
    assert completed(root, "/usr/share/pytools/runqlen", "--runq") == ["--runqocc"]
    assert completed(root, "pytools", "runqle") == ["runqlen"]
    assert completed(root, "pytools", "doct") == ["doctor"]
    assert completed(root, "pytools", "runqlen", "--runq") == ["--runqocc"]
    assert completed(root, "runqlat", "-p", str(os.getpid())) == [str(os.getpid())]
    assert completed(root, "runqlat", "--cgroup", "/sys/fs/cgrou") == ["/sys/fs/cgroup"]
    assert "root" in completed(root, "execsnoop", "-u", "roo")
    assert completed(root, "runqlat", "-d", "") == []


@pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh")
def test_zsh_completes_a_tool_and_its_options(root: Path) -> None:
    """In a zsh on a terminal of its own, which lists what Tab found."""
    functions = root / "usr/share/zsh/site-functions"
    script = f"""
        zmodload zsh/zpty
        zpty shell 'zsh -f -i'
        see() {{ local line; while zpty -r shell line "*$1*"; do print -r -- $line; return; done }}
        zpty -w shell "PS1=; fpath=({functions} \\$fpath); autoload -Uz compinit"
        zpty -w shell "compinit -u -D; LISTMAX=10000; print lo''aded"
        see loaded
        zpty -w -n shell $'{{}}\t'
        see {{}}
        zpty -d shell
    """
    for typed, offered in (
        ("runqlen --runq", "--runqocc"),
        ("/usr/share/pytools/opensnoop --dur", "--duration"),
        ("pytools vfss", "vfsstat"),
        ("pytools runqlen --mill", "--milliseconds"),
    ):
        result = subprocess.run(
            ["zsh", "-f", "-c", script.replace("{}", typed, 1).replace("{}", offered)],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert offered in result.stdout, (typed, result.stdout, result.stderr)


def test_uninstall_leaves_nothing(tmp_path: Path) -> None:
    other = tmp_path / "usr/share/man/man8/other.8"
    other.parent.mkdir(parents=True)
    other.write_text("somebody else's\n")
    make("install", f"DESTDIR={tmp_path}")
    for path in (tmp_path / "usr/share/man/man8").glob("runq*.8"):
        subprocess.run(["gzip", path], check=True)  # as some do after make install
    # A tool that this version no longer has.
    (tmp_path / "usr/share/pytools/formertool").touch()
    (tmp_path / "usr/share/man/man8/formertool.8").touch()
    (tmp_path / "var/cache/pytools").mkdir(parents=True)
    make("uninstall", f"DESTDIR={tmp_path}")
    left = [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert left == [other]
    assert not list(tmp_path.rglob("pytools"))


def test_installed_by_a_user_in_a_folder_of_its_own(tmp_path: Path) -> None:
    make("install", f"PREFIX={tmp_path}/my own", "BYTECODE=no")
    result = run(tmp_path / "my own/sbin/pytools", "runqlen", "--version")
    assert result.stdout.startswith("pytools ")
    make("uninstall", f"PREFIX={tmp_path}/my own", f"CACHE={tmp_path}/cache")
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]
