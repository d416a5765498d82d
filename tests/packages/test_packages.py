"""The packages: they can be built anywhere, are the same each time, and have all in them.

That they install, upgrade and go away again is tried in clean systems: make test-packages.
"""
from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pytools import __version__
from support import ROOT, all_tools

needs = {
    "deb": ["dpkg-buildpackage", "dh", "lintian"],
    "rpm": ["rpmbuild", "rpmlint"],
}


def needing(kind: str) -> list[pytest.MarkDecorator]:
    missing = [name for name in needs[kind] if not shutil.which(name)]
    return [
        pytest.mark.skipif(bool(missing), reason=f"needs {missing}: packaging/install-packages")
    ]


pytestmark = pytest.mark.host_only
each_kind = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=needing(kind)) for kind in needs], scope="module"
)


def output(*command: object, **options: object) -> str:
    result = subprocess.run(  # type: ignore[call-overload]
        [str(word) for word in command], stdout=subprocess.PIPE, check=True, text=True, **options
    )
    return str(result.stdout)


def copy_of_the_sources(folder: Path) -> Path:
    """As another developer has them: without git, elsewhere, other times and order."""
    names = output("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in reversed(names.split("\0")[:-1]):
        if (ROOT / name).exists() or (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_sources(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="module")
def built(kind: str, sources: Path) -> Path:
    return Path(output(sources / "packaging" / "package", kind).split()[-1])


def files(package: Path) -> dict[str, str]:
    """The paths of a package, with their modes (ls -l)."""
    if package.suffix == ".deb":
        listed = output("dpkg-deb", "-c", package)
        pattern = r"^(\S{10}) .*? \./(\S*?)(?: -> .*)?$"
    else:
        listed = output(
            "rpm", "-qp", "--queryformat", "[%{FILEMODES:perms} %{FILENAMES}\n]", package
        )
        pattern = r"^(\S{10}) /(\S+)$"
    return {path: mode for mode, path in re.findall(pattern, listed, re.M)}


@each_kind
def test_two_builds_have_one_hash(kind: str, built: Path) -> None:
    """From another folder, in another time zone, by another umask and language."""
    environment = {**os.environ, "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "LANGUAGE": "de"}
    script = f'umask 077; exec "{ROOT}/packaging/package" {kind}'
    again = Path(output("sh", "-c", script, env=environment).split()[-1])
    assert again != built and again.name == built.name
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (built, again)]
    assert digests[0] == digests[1]


@each_kind
def test_everything_is_in_it_and_nothing_else(kind: str, built: Path) -> None:
    found = files(built)
    folder = "usr/share/pytools/"
    for name in all_tools():
        mode = "lrwxrwxrwx" if (ROOT / "tools" / name).is_symlink() else "-rwxr-xr-x"
        assert found[folder + name] == mode
        assert found[f"usr/share/bash-completion/completions/{name}"].startswith("l")
    for name in [*all_tools(), "pytools"]:
        assert {f"usr/share/man/man8/{name}.8", f"usr/share/man/man8/{name}.8.gz"} & set(found)
    library = ROOT / "lib"
    for path in (library / "pytools").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert found[folder + str(path.relative_to(library))] == "-rw-r--r--"
    assert found["usr/sbin/pytools"] == "-rwxr-xr-x"
    known = (
        folder, "usr/share/man/man8/", "usr/share/doc/pytools/", "usr/share/licenses/",
        "usr/share/bash-completion/", "usr/share/zsh/", "usr/sbin/pytools",
        "usr/share/python3/runtime.d/",  # what Debian compiles anew with a new Python
    )  # fmt: skip
    rest = [path for path, mode in found.items() if mode[0] != "d" and not path.startswith(known)]
    assert not rest
    # dpkg's own bytecode is made where it is installed.
    assert any(path.endswith(".pyc") for path in found) == (kind == "rpm")


@each_kind
def test_it_depends_on_what_the_tools_import(kind: str, built: Path) -> None:
    if kind == "deb":
        depends = output("dpkg-deb", "-f", built, "Depends")
        version = output("dpkg-deb", "-f", built, "Version").strip()
        bcc = "python3-bpfcc"
    else:
        depends = output("rpm", "-qp", "--requires", built)
        version = output("rpm", "-qp", "--queryformat", "%{VERSION}", built)
        bcc = "python3-bcc"
    for name in (bcc, "python3-pyroute2", "python3-tabulate"):
        assert name in depends
    assert version == __version__


@pytest.mark.parametrize("kind", [pytest.param("deb", marks=needing("deb"))], scope="module")
def test_lintian_has_no_error_and_no_warning(kind: str, built: Path) -> None:
    changes = next(built.parent.glob("*.changes"))
    found = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", changes],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
    )  # fmt: skip
    assert (found.stdout, found.returncode) == ("", 0)


@pytest.mark.parametrize("kind", [pytest.param("rpm", marks=needing("rpm"))], scope="module")
def test_rpmlint_has_only_what_there_is_a_reason_for(kind: str, built: Path) -> None:
    rpmlintrc = ROOT / "packaging" / "pytools.rpmlintrc"
    spec = built.parent / "pytools.spec"
    found = subprocess.run(
        ["rpmlint", "--rpmlintrc", rpmlintrc, built, spec],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert "0 errors, 0 warnings" in found.stdout, found.stdout


def test_the_changelog_is_of_this_version() -> None:
    script = ROOT / "packaging" / "changelog.py"
    assert output("/usr/bin/python3", "-B", script, "version").strip() == __version__
