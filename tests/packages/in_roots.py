#!/usr/bin/python3
"""Install the packages in clean Debian roots: run what is in them, upgrade, remove, purge.

    tests/packages/in_roots.py [SUITE ...]

Each root is a release's base system with what the package depends on, and without
compiler or kernel headers; it shares the running kernel, /proc and /sys.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from roots import SUITES, say, unpack

ROOT = Path(__file__).resolve().parents[2]
OLDER = "0.0.9"
# In a mount namespace of its own, so that nothing stays mounted.
ENTER = """
set -e
mount --bind "$1" "$1" # rpm wants its / to be a mount point
cd "$1"; shift
for folder in proc sys dev; do mount --rbind /$folder $folder; done
mount -t tmpfs tmpfs tmp
exec chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb "$@"
"""


class Broken(Exception):
    """A claim that does not hold."""


def package(kind: str, version: str | None, folder: Path) -> Path:
    """Build a package; where it is kept."""
    environment = {**os.environ, **({"VERSION": version} if version else {})}
    built = subprocess.run(
        [ROOT / "packaging" / "package", kind], env=environment, stdout=subprocess.PIPE, check=True
    )
    path = Path(built.stdout.decode().split()[-1])
    return Path(shutil.copy(path, folder))


class Chroot:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, script: Path | None = None) -> str:
        """Run a command inside; what it printed. Raises Broken when it fails."""
        result = subprocess.run(
            ["unshare", "--mount", "sh", "-c", ENTER, "sh", self.folder, *command],
            stdin=script.open() if script else subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        text = result.stdout.decode("utf-8", "replace")
        if result.returncode:
            raise Broken(f"{' '.join(command)}: status {result.returncode}\n{text}")
        return text

    def put(self, path: Path) -> str:
        shutil.copy(path, self.folder / "root")
        return f"/root/{path.name}"

    def check(self) -> None:
        """What must hold where pytools is installed."""
        self.run("sh", "-s", script=ROOT / "tests" / "packages" / "installed.sh")

    def left(self) -> list[str]:
        """The paths that speak of pytools, but for the packages and what man keeps."""
        found = self.run("find", "/", "-xdev", "-name", "*pytools*").split()
        return [path for path in found if not path.startswith(("/root/", "/var/cache/man/"))]


def require(claim: bool, text: str) -> None:
    if not claim:
        raise Broken(text)


def try_deb(root: Chroot, older: Path, newer: Path) -> None:
    installed = ["dpkg-query", "-W", "-f", "${Status} ${Version}", "pytools"]
    root.run("dpkg", "-i", root.put(older))
    require(root.run(*installed) == f"install ok installed {OLDER}", "the older one")
    root.check()
    root.run("dpkg", "-i", root.put(newer))
    version = newer.name.split("_")[1]
    require(root.run(*installed) == f"install ok installed {version}", "the upgrade")
    require(root.run("pytools", "--version").split()[1] == version, "what the upgrade installed")
    root.check()
    root.run("dpkg", "--audit")
    root.run("dpkg", "--verify", "pytools")
    root.run("dpkg", "-r", "pytools")
    cache = "/var/cache/pytools"
    left = [path for path in root.left() if not path.startswith("/var/lib/dpkg/")]
    require(left == [cache], f"removed, but left: {left}")
    root.run("dpkg", "-P", "pytools")
    require(not root.left(), f"purged, but left: {root.left()}")


def try_rpm(root: Chroot, older: Path, newer: Path) -> None:
    # rpm does not know what dpkg has installed.
    root.run("rpm", "-i", "--nodeps", root.put(older))
    root.check()
    root.run("rpm", "-U", "--nodeps", root.put(newer))
    root.check()
    root.run("rpm", "-V", "--nodeps", "pytools")
    root.run("rpm", "-e", "pytools")
    require(not root.left(), f"erased, but left: {root.left()}")


def main() -> int:
    suites = sys.argv[1:] or list(SUITES)
    failed = False
    with tempfile.TemporaryDirectory(prefix="pytools-packages-") as scratch:
        packages = {
            kind: [package(kind, version, Path(scratch)) for version in (OLDER, None)]
            for kind in ("deb", "rpm")
        }
        for suite in suites:
            folder = Path(scratch) / suite
            folder.mkdir()
            unpack(suite, folder)
            root = Chroot(folder)
            for kind, trial in (("deb", try_deb), ("rpm", try_rpm)):
                start = time.monotonic()
                try:
                    trial(root, *packages[kind])
                    say(f"{suite}: {kind}: pass in {time.monotonic() - start:.0f} s")
                except Broken as error:
                    failed = True
                    say(f"{suite}: {kind}: FAIL: {error}")
            shutil.rmtree(folder)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
