"""Debian's archive: packages from its signed repositories, by the distribution's own tools."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cmp_to_key
from pathlib import Path
from typing import NoReturn

__all__ = ["Apt", "ImageError", "MissingPackage", "mirror", "mmdebstrap", "pinned", "run"]

PINNED = Path(__file__).with_name("pinned.txt")
APT_HELPER = Path("/usr/lib/apt/apt-helper")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEFAULT_MIRROR = "http://deb.debian.org/debian"
# Settings of the host's apt without which it can't use its network, or refuses lists for the sake
# of its clock.
HOST_APT_SETTINGS = re.compile(
    r'Acquire::(?:(?:https?|ftp)::Proxy\S*|Check-Valid-Until|Check-Date|Retries) ".+";'
)
# What a failed command prints, the most telling first.
REASONS = ("no space left", "failed to fetch", "^E: ", "^W: ", "error|failed|cannot")


class ImageError(Exception):
    """What a machine needs can't be had or trusted; the message is one line for the person at the
    prompt."""


class MissingPackage(ImageError):
    """The archive, as far as we know it, has no such package."""


def run(
    command: Sequence[str | Path], log: Path, name: str | None = None, **options: object
) -> None:
    """Run ``command``, its output appended to ``log``; it ends when we do, however we do.

    :raises ImageError: with the reason in the log, if ``command``, there called ``name``, fails.
    """
    if shutil.which(command[0]) is None:
        raise ImageError(f"{command[0]} isn't installed")
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )
        try:
            status = process.wait()
        except BaseException:
            # mmdebstrap unmounts and removes what it made when it is asked to end.
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            raise
    if status:
        fail(name or Path(command[0]).name, log)


def fail(name: str, log: Path) -> NoReturn:
    """Raise with the line of ``log`` that most likely says why the command ``name`` failed."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    reasons = [line for reason in REASONS for line in lines if re.search(reason, line, re.I)]
    raise ImageError(f"{name}: {(reasons or lines or ['failed'])[0]}")


def host_apt_settings() -> list[str]:
    """The lines of the host's apt configuration that any apt on this host needs."""
    dump = subprocess.run(
        ["apt-config", "dump"], stdout=subprocess.PIPE, check=False, text=True
    ).stdout
    return [line for line in dump.splitlines() if HOST_APT_SETTINGS.fullmatch(line)]


def mirror() -> str:
    """The Debian archive that the host itself uses, or Debian's own."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    targets = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, text=True
    ).stdout
    for uri in targets.split():
        if re.fullmatch(r"https?://\S+/debian/?", uri):
            return uri.rstrip("/")
    return DEFAULT_MIRROR


def source(suite: str) -> str:
    if not KEYRING.exists():
        raise ImageError("Debian's keys aren't installed: install debian-archive-keyring")
    return f"deb [signed-by={KEYRING}] {mirror()} {suite} main"


def mmdebstrap(variant: str, suite: str, packages: Sequence[str], tar: Path, *more: str) -> None:
    """Write a tar file of ``packages`` and all that they depend on, verified by apt. ``more`` are
    options of mmdebstrap."""
    options = [
        f"--aptopt={line}" for line in ['APT::Install-Recommends "false";', *host_apt_settings()]
    ]
    environment = {**os.environ, "LC_ALL": "C"}
    if shutil.which("mmdebstrap") is None:
        raise ImageError("mmdebstrap isn't installed")
    command = [
        "mmdebstrap",
        f"--variant={variant}",
        f"--include={','.join(packages)}",
        *options,
        *more,
        suite,
        str(tar),
        source(suite),
    ]
    if os.geteuid() == 0:
        # Root's mmdebstrap binds the host's /dev and /sys into the tree it makes: in a mount
        # namespace of its own, so that removing what is left of a killed one can't reach them, and
        # in a process namespace, so that none of its children outlives it. A plain user's makes
        # both itself.
        command = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            *command,
        ]
        environment["TMPDIR"] = str(tar.parent)
    run(command, tar.parent / "mmdebstrap.log", "mmdebstrap", env=environment)


class Apt:
    """An apt with sources and state of its own, for packages that are never installed."""

    def __init__(self, suite: str, directory: Path, architecture: str) -> None:
        self.directory = directory
        self.log = directory / "apt.log"
        for name in ("state/lists/partial", "cache/archives/partial"):
            (directory / name).mkdir(parents=True)
        (directory / "status").touch()
        (directory / "sources.list").write_text(source(suite) + "\n")
        settings = [
            f'Dir::State "{directory}/state";',
            f'Dir::State::status "{directory}/status";',
            f'Dir::Cache "{directory}/cache";',
            f'Dir::Etc::SourceList "{directory}/sources.list";',
            'Dir::Etc::SourceParts "-";',
            f'APT::Architecture "{architecture}";',
            "#clear APT::Architectures;",
            f'APT::Architectures:: "{architecture}";',
            'APT::Sandbox::User "root";',
            "#clear APT::Update::Post-Invoke-Success;",
            *host_apt_settings(),
        ]
        (directory / "apt.conf").write_text("\n".join(settings) + "\n")
        self.environment = {**os.environ, "LC_ALL": "C", "APT_CONFIG": str(directory / "apt.conf")}
        run(["apt-get", "update", "--error-on=any"], self.log, env=self.environment)
        # Unlike pkgnames, dumpavail leaves out what is only mentioned by others.
        self.listed = frozenset(re.findall(r"^Package: (.*)$", self.ask("dumpavail"), re.M))

    def ask(self, *words: str) -> str:
        command = ["apt-cache", *words]
        output = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, check=True)
        return output.stdout.decode()

    def field(self, package: str, name: str) -> str:
        """A field of a package's entry in the package list; empty if the list has no such entry."""
        if package not in self.listed:
            return ""
        match = re.search(rf"^{name}: (.*)$", self.ask("show", "--no-all-versions", package), re.M)
        return str(match[1]) if match else ""

    def newest(self, pattern: str) -> str:
        """The name of the package with the highest version among those that match ``pattern``."""
        names = [name for name in self.listed if fnmatchcase(name, pattern)]
        if not names:
            raise MissingPackage(f"no package {pattern} in the suite")
        versions = {name: self.field(name, "Version") for name in names}

        def compare(one: str, other: str) -> int:
            later = subprocess.run(
                ["dpkg", "--compare-versions", versions[one], "gt", versions[other]], check=False
            )
            return 1 if later.returncode == 0 else -1

        newest: str = max(names, key=cmp_to_key(compare))
        return newest

    def family(self, package: str) -> list[str]:
        """``package`` and those it depends on in its very version: parts of one source package."""
        version = self.field(package, "Version")
        found = [package]
        for name in found:
            depends = self.field(name, "Depends")
            found += [
                part
                for part in re.findall(rf"(\S+) \(= {re.escape(version)}\)", depends)
                if part not in found
            ]
        return found

    def unpack(self, packages: Sequence[str], target: Path) -> None:
        """Unpack ``packages`` into ``target``; apt verifies them, by its lists or a pinned hash."""
        debs = self.directory / "debs"
        debs.mkdir()
        listed = [name for name in packages if name in self.listed]
        run(["apt-get", "download", *listed], self.log, env=self.environment, cwd=debs)
        for name in [name for name in packages if name not in self.listed]:
            path, sha256 = pinned(name)
            run(
                [
                    APT_HELPER,
                    "download-file",
                    f"{mirror()}/pool/{path}",
                    debs / f"{name}.deb",
                    f"SHA256:{sha256}",
                ],
                self.log,
                env=self.environment,
            )
        for deb in sorted(debs.iterdir()):
            run(["dpkg-deb", "--extract", deb, target], self.log)


def pinned(package: str) -> tuple[str, str]:
    """Path in the pool and SHA-256 of a package that no list names any more.

    :raises MissingPackage: if it isn't pinned either.
    """
    for line in PINNED.read_text().splitlines():
        columns = line.partition("#")[0].split()
        if columns and columns[1].rpartition("/")[2].startswith(package + "_"):
            return columns[1], columns[0]
    raise MissingPackage(f"the suite no longer has {package}, and {PINNED.name} doesn't either")
