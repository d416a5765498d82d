"""What test machines are made of: QEMU, Debian userlands and kernels, built from signed repositories and cached by content.

A cache entry is a directory ``KIND-NAME-KEY``; the key is a hash of everything that it is built from. It is made in a
directory of its own, checked, and given its name last: an entry that has its name is whole. ``manifest.json`` in it holds
size and hash of each file, and `load` trusts no entry that differs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import lzma
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cmp_to_key
from pathlib import Path
from typing import Callable, NoReturn

from matrix import Row

__all__ = ["ImageError", "Kernel", "Tools", "Userland", "cache_directory", "kernel", "key", "load", "tools", "userland"]

# To be raised when what is built changes but none of the lists below does; entries made before are then built anew.
VERSION = 1

# Debian 12's QEMU 7.2 panics one guest in six in the kernel's text patching; trixie's QEMU 10 does not. Its other tools come along,
# so that the host needs only mmdebstrap and what apt and dpkg bring. libarchive lets mke2fs read a tar file.
TOOLS_SUITE = "trixie"
TOOLS_PACKAGES = ("busybox-static", "e2fsprogs", "kmod", "libarchive13t64", "qemu-system-x86")

USERLAND_PACKAGES = (
    "bpftool",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "mount",
    "procps",
    "python3",
    "python3-bpfcc",
    "python3-hypothesis",
    "python3-pyroute2",
    "python3-pytest",
    "python3-tabulate",
    "strace",
)

# What a disk needs before any disk can be read. Kernels have one or the other of them built in.
DISK_MODULES = ("virtio_pci", "virtio_blk")

# Room that tests find on the root disk, beside what the packages fill.
USERLAND_FREE = 256 << 20
# The largest build: one userland, its archives, unpacked, as tar file and as image.
BUILD_SPACE = 2500 << 20

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEFAULT_MIRROR = "http://deb.debian.org/debian"
# Settings of the host's apt without which its network can't be used, or its clock isn't the archive's.
HOST_APT_SETTINGS = re.compile(r'Acquire::(?:(?:https?|ftp)::Proxy\S*|Check-Valid-Until|Check-Date|Retries) ".+";')


class ImageError(Exception):
    """Something can't be built or trusted; the message is one line for the person at the prompt."""


def cache_directory() -> Path:
    """Where entries are kept: ``~/.cache/pytools/kernels`` unless ``XDG_CACHE_HOME`` says otherwise."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "pytools" / "kernels"


def key(*inputs: object) -> str:
    """Sixteen hex digits that change when any of ``inputs`` does."""
    return hashlib.sha256(json.dumps([VERSION, *inputs], sort_keys=True).encode()).hexdigest()[:16]


# The cache.


def digest(path: Path) -> str:
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def manifest(entry: Path) -> dict[str, list[object]]:
    """Size and hash of each regular file below ``entry``."""
    files = sorted(path for path in entry.rglob("*") if path.is_file() and not path.is_symlink() and path.name != "manifest.json")
    return {str(path.relative_to(entry)): [path.stat().st_size, digest(path)] for path in files}


def load(entry: Path) -> Path | None:
    """``entry`` if it is there and whole, byte for byte; otherwise None, and what is there is removed."""
    if not entry.exists():
        return None
    try:
        recorded = json.loads((entry / "manifest.json").read_text())
        # Sizes first: most damage shows there, in no time.
        if all((entry / name).stat().st_size == size for name, (size, _) in recorded.items()) and manifest(entry) == recorded:
            return entry
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    shutil.rmtree(entry)
    return None


@contextmanager
def sole_builder(cache: Path) -> Iterator[None]:
    """One build at a time in a cache; what an interrupted one left behind is removed."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in cache.glob("building-*"):
            shutil.rmtree(leftover)
        yield


def entry(kind: str, name: str, inputs: Sequence[object], build: Callable[[Path, Path], None], say: Callable[[str], None]) -> Path:
    """The cache entry for ``inputs``, built by ``build(directory, scratch)`` unless it is there already.

    :raises ImageError: if it can't be built; nothing is left of it then.
    """
    cache = cache_directory()
    place = cache / f"{kind}-{name}-{key(*inputs)}"
    building = cache / "building-entry"
    scratch = cache / "building-scratch"
    try:
        with sole_builder(cache):
            if found := load(place):
                return found
            free = shutil.disk_usage(cache).free
            if free < BUILD_SPACE:
                raise ImageError(f"{BUILD_SPACE >> 20} MiB of disk space needed, {free >> 20} MiB free in {cache}")
            say(f"building {kind} {name}")
            start = time.monotonic()
            try:
                building.mkdir()
                scratch.mkdir()
                build(building, scratch)
                (building / "manifest.json").write_text(json.dumps(manifest(building), indent=1))
                # The name must not reach the disk before the data does.
                os.sync()
                building.rename(place)
            finally:
                shutil.rmtree(building, ignore_errors=True)
                shutil.rmtree(scratch, ignore_errors=True)
            for other in cache.glob(f"{kind}-{name}-{'?' * 16}"):
                if other != place:
                    shutil.rmtree(other)
            say(f"built {kind} {name} in {time.monotonic() - start:.0f} s")
            return place
    except ImageError as error:
        raise ImageError(f"cannot build {kind} {name}: {error}") from None
    except OSError as error:
        raise ImageError(f"cannot build {kind} {name}: {error.strerror}: {error.filename or cache}") from None


# Commands.


def run(command: Sequence[str | Path], log: Path, **options: object) -> None:
    """Run ``command``, its output appended to ``log``; ended with all its children if we are."""
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **options,  # type: ignore[call-overload]
            )
        except FileNotFoundError:
            raise ImageError(f"{command[0]} isn't installed") from None
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
        fail(str(command[0]), log)


def fail(command: str, log: Path) -> NoReturn:
    """Raise with the line of ``log`` that most likely says why ``command`` failed."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    reasons = [line for line in lines if re.search(r"no space left|disk full", line, re.I)]
    reasons += [line for line in lines if re.match(r"(E|W|Err):|Err:\d+ |.*(?:error|failed|cannot)\b", line, re.I)]
    raise ImageError(f"{Path(command).name}: {(reasons or lines or ['failed'])[0]}")


def host_apt_settings() -> list[str]:
    """The lines of the host's apt configuration that any apt on this host needs."""
    dump = subprocess.run(["apt-config", "dump"], stdout=subprocess.PIPE, check=False, text=True).stdout
    return [line for line in dump.splitlines() if HOST_APT_SETTINGS.fullmatch(line)]


def mirror() -> str:
    """The Debian archive that the host itself uses, or Debian's own."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    targets = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, text=True).stdout
    for uri in targets.split():
        if re.fullmatch(r"https?://\S+/debian/?", uri):
            return uri.rstrip("/")
    return DEFAULT_MIRROR


def source(suite: str) -> str:
    if not KEYRING.exists():
        raise ImageError("Debian's keys aren't installed: install debian-archive-keyring")
    return f"deb [signed-by={KEYRING}] {mirror()} {suite} main"


def mmdebstrap(variant: str, suite: str, packages: Sequence[str], tar: Path) -> None:
    """Write a tar file of ``packages`` and all that they depend on; apt verifies signatures and hashes."""
    options = [f"--aptopt={line}" for line in ['APT::Install-Recommends "false";', *host_apt_settings()]]
    # In the cache, where what a kill leaves behind is found and removed; a plain user's mmdebstrap can't work in a private directory.
    environment = {**os.environ, "LC_ALL": "C", **({"TMPDIR": str(tar.parent)} if os.geteuid() == 0 else {})}
    command = ["mmdebstrap", f"--variant={variant}", f"--include={','.join(packages)}", *options, suite, str(tar), source(suite)]
    run(command, tar.parent / "mmdebstrap.log", env=environment)


class Apt:
    """An apt with sources and state of its own, for packages that are downloaded and never installed."""

    def __init__(self, suite: str, directory: Path) -> None:
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
            'APT::Sandbox::User "root";',
            "#clear APT::Update::Post-Invoke-Success;",
            *host_apt_settings(),
        ]
        (directory / "apt.conf").write_text("\n".join(settings) + "\n")
        self.environment = {**os.environ, "LC_ALL": "C", "APT_CONFIG": str(directory / "apt.conf")}
        run(["apt-get", "update", "--error-on=any"], self.log, env=self.environment)

    def ask(self, *words: str) -> str:
        return subprocess.run(["apt-cache", *words], env=self.environment, stdout=subprocess.PIPE, check=True, text=True).stdout

    def field(self, package: str, name: str) -> str:
        match = re.search(rf"^{name}: (.*)$", self.ask("show", "--no-all-versions", package), re.M)
        return match[1] if match else ""

    def newest(self, pattern: str) -> str:
        """The name of the package with the highest version among those that match ``pattern``."""
        names = [name for name in self.ask("pkgnames", pattern.partition("*")[0]).split() if fnmatchcase(name, pattern)]
        if not names:
            raise ImageError(f"no package {pattern} in the suite")
        versions = {name: self.field(name, "Version") for name in names}

        def compare(one: str, other: str) -> int:
            later = subprocess.run(["dpkg", "--compare-versions", versions[one], "gt", versions[other]], check=False)
            return 1 if later.returncode == 0 else -1

        return max(names, key=cmp_to_key(compare))

    def family(self, package: str) -> list[str]:
        """``package`` and those it depends on in its very version: the parts that one source package was split into."""
        version = self.field(package, "Version")
        found = [package]
        for name in found:
            depends = self.field(name, "Depends")
            found += [part for part in re.findall(rf"(\S+) \(= {re.escape(version)}\)", depends) if part not in found]
        return found

    def unpack(self, packages: Sequence[str], target: Path) -> None:
        debs = self.directory / "debs"
        debs.mkdir()
        run(["apt-get", "download", *packages], self.log, env=self.environment, cwd=debs)
        for deb in sorted(debs.iterdir()):
            run(["dpkg-deb", "--extract", deb, target], self.log)


# QEMU and the other tools.


class Tools:
    """Programs of another Debian release, run through that release's dynamic loader and libraries."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.busybox = root / "usr/bin/busybox"

    def command(self, program: str, *arguments: str | Path, name: str | None = None) -> list[str]:
        """The words that start ``usr/…/program``, under the name ``name`` if it does several jobs."""
        loader = self.root / "usr/lib64/ld-linux-x86-64.so.2"
        libraries = self.root / "usr/lib/x86_64-linux-gnu"
        binary = self.root / "usr" / program
        words = [loader, "--library-path", libraries, "--argv0", name or program.rpartition("/")[2], binary, *arguments]
        return [str(word) for word in words]

    def qemu(self, *arguments: str | Path) -> list[str]:
        share = self.root / "usr/share"
        return self.command("bin/qemu-system-x86_64", "-L", share / "qemu", "-L", share / "seabios", *arguments)

    def make_ext4(self, image: Path, size: int, log: Path, content: Path | None = None) -> None:
        """Write an ext4 file system of ``size`` bytes that holds ``content``, a directory or a tar file."""
        # No journal: machines write to a copy that lives as long as they do.
        features = ["-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-E", "root_owner=0:0"]
        source_options = ["-d", content] if content else []
        run(self.command("sbin/mke2fs", *features, *source_options, image, f"{size >> 10}k"), log)

    def check_ext4(self, image: Path, log: Path) -> None:
        run(self.command("sbin/e2fsck", "-fn", image), log)


def tools(say: Callable[[str], None]) -> Tools:
    """QEMU and what else the host need not have.

    :raises ImageError: if they can't be had.
    """

    def build(place: Path, scratch: Path) -> None:
        tar = scratch / "tools.tar"
        mmdebstrap("extract", TOOLS_SUITE, TOOLS_PACKAGES, tar)
        unwanted = [f"--exclude=./{name}" for name in ("dev", "usr/share/doc", "usr/share/locale", "usr/share/man", "var")]
        run(["tar", "-C", place, "--no-same-owner", *unwanted, "-xf", tar], scratch / "tar.log")
        # Proves that the loader finds every library, before anything counts on it.
        run(Tools(place).qemu("--version"), scratch / "qemu.log")

    return Tools(entry("tools", "qemu", [TOOLS_SUITE, TOOLS_PACKAGES], build, say))


# Userlands.


class Userland:
    """A Debian root file system as a disk image, without a kernel."""

    def __init__(self, place: Path) -> None:
        self.image = place / "root.ext4"


def userland(suite: str, tool: Tools, say: Callable[[str], None], extra: Sequence[str] = ()) -> Userland:
    """The userland of a Debian suite, with ``extra`` packages beside the usual ones.

    :raises ImageError: if it can't be built.
    """
    packages = (*USERLAND_PACKAGES, *extra)

    def build(place: Path, scratch: Path) -> None:
        tar = scratch / "root.tar"
        mmdebstrap("essential", suite, packages, tar)
        with tarfile.open(tar) as content:
            # A block and an inode for each name; the tables that ext4 itself needs are 2 %.
            filled = sum((member.size + 8191) & ~4095 for member in content)
        image = Userland(place).image
        tool.make_ext4(image, int(filled * 1.02) + USERLAND_FREE, scratch / "mke2fs.log", tar)
        tool.check_ext4(image, scratch / "e2fsck.log")

    name = "-".join((suite, *extra))
    return Userland(entry("userland", name, [suite, packages], build, say))


# Kernels.


class Kernel:
    """A kernel: what QEMU starts, the modules that find its disks, and a disk with all else that its packages hold."""

    def __init__(self, place: Path) -> None:
        self.vmlinuz = place / "vmlinuz"
        self.image = place / "kernel.ext4"
        self.modules = place / "modules"


def kernel(row: Row, tool: Tools, say: Callable[[str], None]) -> Kernel:
    """The kernel of a row of the table.

    :raises ImageError: if it can't be built.
    """
    headers = "headers" in row.options

    def build(place: Path, scratch: Path) -> None:
        apt = Apt(row.suite, scratch / "apt")
        package = apt.newest(row.package)
        packages = apt.family(package)
        if headers:
            # Only the headers proper, not the compiler that they depend on: bcc brings its own.
            packages += apt.family(package.replace("linux-image-", "linux-headers-"))
        tree = scratch / "tree"
        apt.unpack(packages, tree)
        stage = scratch / "stage"
        arrange(tree, stage, tool, scratch / "depmod.log")
        release = next((stage / "lib/modules").iterdir()).name
        result = Kernel(place)
        shutil.copyfile(stage / "boot" / f"vmlinuz-{release}", result.vmlinuz)
        for number, module in enumerate(needed_modules(stage / "lib/modules" / release)):
            result.modules.mkdir(exist_ok=True)
            content = module.read_bytes()
            content = lzma.decompress(content) if module.suffix == ".xz" else content
            (result.modules / f"{number:02}-{module.name.partition('.')[0]}.ko").write_bytes(content)
        filled = sum((path.lstat().st_size + 8191) & ~4095 for path in stage.rglob("*"))
        tool.make_ext4(result.image, int(filled * 1.02) + (16 << 20), scratch / "mke2fs.log", stage)
        tool.check_ext4(result.image, scratch / "e2fsck.log")
        (place / "packages").write_text("".join(f"{name} {apt.field(name, 'Version')}\n" for name in packages))

    return Kernel(entry("kernel", row.name, [row.package, row.suite, headers, DISK_MODULES], build, say))


def arrange(tree: Path, stage: Path, tool: Tools, log: Path) -> None:
    """Move what a kernel's packages hold to ``boot``, ``lib/modules`` and ``usr/src`` of ``stage``, wherever they keep it."""
    found = [path for directory in ("lib/modules", "usr/lib/modules") for path in (tree / directory).glob("*/kernel")]
    if len(found) != 1:
        raise ImageError("the packages hold no kernel modules")
    release = found[0].parent.name
    modules = stage / "lib/modules" / release
    boot = stage / "boot"
    modules.mkdir(parents=True)
    boot.mkdir()
    for directory in ("lib/modules", "usr/lib/modules"):
        # Headers bring links of their own into the directory of the modules.
        if (tree / directory / release).is_dir():
            shutil.copytree(tree / directory / release, modules, symlinks=True, dirs_exist_ok=True)
    for name in ("vmlinuz", "config", "System.map"):
        # Since 6.19 packages leave it to their scripts to fill /boot.
        kept = [path for path in (tree / "boot" / f"{name}-{release}", modules / name) if path.exists()]
        if kept:
            shutil.copyfile(kept[0], boot / f"{name}-{release}")
    if (tree / "usr/src").is_dir():
        shutil.move(str(tree / "usr/src"), str(stage / "usr/src"))
    run(tool.command("bin/kmod", "-b", stage, release, name="depmod"), log)


def needed_modules(modules: Path) -> list[Path]:
    """The modules below ``modules`` that read disks, those that another needs first."""
    builtin = {Path(line).name.partition(".")[0].replace("-", "_") for line in (modules / "modules.builtin").read_text().splitlines()}
    needs: dict[str, list[str]] = {}
    where: dict[str, str] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        name = Path(path).name.partition(".")[0].replace("-", "_")
        where[name] = path
        needs[name] = [Path(other).name.partition(".")[0].replace("-", "_") for other in others.split()]
    order: list[str] = []

    def add(name: str) -> None:
        if name in builtin or name in order:
            return
        if name not in where:
            raise ImageError(f"the kernel has no module {name}")
        for other in needs[name]:
            add(other)
        order.append(name)

    for name in DISK_MODULES:
        add(name)
    return [modules / where[name] for name in order]
