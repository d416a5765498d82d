"""What test machines are made of: QEMU, Debian userlands and kernels."""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from cache import entry
from debian import PINNED, Apt, ImageError, mmdebstrap, run
from matrix import Row

__all__ = ["Kernel", "Tools", "Userland", "build_tools", "kernel", "make_root", "tools", "userland"]

# Debian 12's QEMU 7.2 panics one guest in six in the kernel's text patching; trixie's QEMU 10 does
# not. Other tools come along, so that the host needs only mmdebstrap and what apt and dpkg bring.
# libarchive lets mke2fs read a tar file.
TOOLS_SUITE = "trixie"
TOOLS_PACKAGES = ("busybox-static", "e2fsprogs", "kmod", "libarchive13t64", "qemu-system-x86")

USERLAND_PACKAGES = (
    "bpftool",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "mount",
    "musl",
    "procps",
    "python3",
    "python3-bpfcc",
    "python3-hypothesis",
    "python3-pyroute2",
    "python3-pytest",
    "python3-tabulate",
    "strace",
)

# What it takes to read a disk. Some kernels have one or the other built in.
DISK_MODULES = ("virtio_pci", "virtio_blk")
# Debian's cloud kernels have it built in, others as a module.
FILE_SYSTEM = "ext4"

# Room that tests find on the root disk, beside what the packages fill.
USERLAND_FREE = 256 << 20


# QEMU and the other tools.


class Tools:
    """Programs of another Debian release, run through that release's loader and libraries."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.busybox = root / "usr/bin/busybox"

    def command(self, program: str, *arguments: str | Path, name: str | None = None) -> list[str]:
        """The words that start ``usr/program``, by another ``name`` if it has several."""
        loader = self.root / "usr/lib64/ld-linux-x86-64.so.2"
        libraries = self.root / "usr/lib/x86_64-linux-gnu"
        binary = self.root / "usr" / program
        words = [
            loader,
            "--library-path",
            libraries,
            "--argv0",
            name or program.rpartition("/")[2],
            binary,
            *arguments,
        ]
        return [str(word) for word in words]

    def qemu(self, *arguments: str | Path) -> list[str]:
        share = self.root / "usr/share"
        return self.command(
            "bin/qemu-system-x86_64", "-L", share / "qemu", "-L", share / "seabios", *arguments
        )

    def make_ext4(self, image: Path, size: int, log: Path, content: Path | None = None) -> None:
        """Write an ext4 file system of ``size`` bytes, filled from a directory or a tar file."""
        # No journal: machines write to a copy that lives as long as they do.
        features = [
            "-q",
            "-F",
            "-t",
            "ext4",
            "-m",
            "0",
            "-O",
            "^has_journal",
            "-E",
            "root_owner=0:0",
        ]
        source_options: list[str | Path] = ["-d", content] if content else []
        run(
            self.command("sbin/mke2fs", *features, *source_options, image, f"{size >> 10}k"),
            log,
            "mke2fs",
        )

    def check_ext4(self, image: Path, log: Path) -> None:
        run(self.command("sbin/e2fsck", "-fn", image), log, "e2fsck")

    def read_ext4(self, image: Path, path: str) -> str:
        """The text of a file in an ext4 file system; empty if there is none."""
        command = self.command("sbin/debugfs", "-R", f"cat {path}", image)
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        ).stdout.decode(errors="replace")


def tools(say: Callable[[str], None]) -> Tools:
    """QEMU and what else the host need not have.

    :raises ImageError: if they can't be had.
    """

    def build(place: Path, scratch: Path) -> None:
        build_tools(Tools(place), TOOLS_PACKAGES, scratch)

    return Tools(entry("tools", "qemu", [TOOLS_SUITE, TOOLS_PACKAGES], build, say))


def build_tools(tool: Tools, packages: Sequence[str], scratch: Path) -> None:
    """Unpack ``packages``, which hold QEMU, where ``tool`` expects them."""
    tar = scratch / "tools.tar"
    mmdebstrap("extract", TOOLS_SUITE, packages, tar)
    unwanted = [
        f"--exclude=./{name}"
        for name in ("dev", "usr/share/doc", "usr/share/locale", "usr/share/man", "var")
    ]
    run(["tar", "-C", tool.root, "--no-same-owner", *unwanted, "-xf", tar], scratch / "tar.log")
    # Proves that the loader finds every library, before anything counts on it.
    run(tool.qemu("--version"), scratch / "qemu.log", "qemu")


# Userlands.


class Userland:
    """A Debian root file system as a disk image, without a kernel."""

    def __init__(self, place: Path) -> None:
        self.image = place / "root.ext4"

    def packages(self, tool: Tools) -> list[str]:
        """Its packages with their versions, sorted, as its own dpkg knows them.

        :raises ImageError: if the image doesn't say.
        """
        status = tool.read_ext4(self.image, "/var/lib/dpkg/status")
        found = re.findall(r"^Package: (.*)\n(?:.+\n)*?Version: (.*)$", status, re.M)
        if not found:
            raise ImageError(f"{self.image} has no list of its packages")
        return sorted(f"{name} {version}" for name, version in found)


def userland(
    suite: str, tool: Tools, say: Callable[[str], None], extra: Sequence[str] = ()
) -> Userland:
    """The userland of a Debian suite, with ``extra`` packages beside the usual ones.

    :raises ImageError: if it can't be built.
    """
    packages = (*USERLAND_PACKAGES, *extra)

    def build(place: Path, scratch: Path) -> None:
        tar = scratch / "root.tar"
        mmdebstrap("essential", suite, packages, tar)
        image = Userland(place).image
        make_root(image, tar, tool, scratch)
        tool.check_ext4(image, scratch / "e2fsck.log")

    name = "-".join((suite, *extra))
    return Userland(entry("userland", name, [suite, packages], build, say))


def make_root(image: Path, tar: Path, tool: Tools, scratch: Path) -> None:
    """Write the root file system in ``tar`` as a disk image."""
    with tarfile.open(tar) as content:
        # A block and an inode for each name; the tables that ext4 itself needs are 2 %.
        filled = sum((member.size + 8191) & ~4095 for member in content)
    tool.make_ext4(image, int(filled * 1.02) + USERLAND_FREE, scratch / "mke2fs.log", tar)


# Kernels.


class Kernel:
    """A kernel: what QEMU starts, the modules it needs to find disks, and a disk with the rest."""

    def __init__(self, place: Path) -> None:
        self.vmlinuz = place / "vmlinuz"
        self.image = place / "kernel.ext4"
        self.modules = place / "modules"
        self.list = place / "packages"

    def initial_modules(self) -> dict[str, bytes]:
        """The modules that an initramfs needs, by their names in it."""
        found = sorted(self.modules.iterdir()) if self.modules.is_dir() else []
        return {f"modules/{path.name}": path.read_bytes() for path in found}

    def packages(self) -> list[str]:
        """Its packages with their versions."""
        return self.list.read_text().splitlines()


def kernel(row: Row, tool: Tools, say: Callable[[str], None]) -> Kernel:
    """The kernel of a row of the table.

    :raises ImageError: if it can't be built.
    """
    headers = "headers" in row.options
    pins = [
        line
        for line in PINNED.read_text().splitlines()
        if f"-{row.release}." in line and (headers or "/linux-headers-" not in line)
    ]

    def build(place: Path, scratch: Path) -> None:
        apt = Apt(row.suite, scratch / "apt", row.architecture)
        package = apt.newest(row.package)
        packages = apt.family(package)
        if headers:
            # Only the headers proper, not the compiler that they depend on: bcc brings its own.
            name = package.replace("linux-image-", "linux-headers-")
            packages += [name, re.sub(f"-([a-z]+-)?{row.architecture}$", "-common", name)]
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
            (result.modules / f"{number:02}-{module.name.partition('.')[0]}.ko").write_bytes(
                content
            )
        filled = sum((path.lstat().st_size + 8191) & ~4095 for path in stage.rglob("*"))
        tool.make_ext4(result.image, int(filled * 1.02) + (16 << 20), scratch / "mke2fs.log", stage)
        tool.check_ext4(result.image, scratch / "e2fsck.log")
        result.list.write_text(
            "".join(f"{name} {apt.field(name, 'Version')}\n" for name in packages)
        )

    return Kernel(
        entry("kernel", row.name, [row.package, row.suite, headers, DISK_MODULES, pins], build, say)
    )


def arrange(tree: Path, stage: Path, tool: Tools, log: Path) -> None:
    """Bring a kernel's packages in ``tree`` to boot, lib/modules and usr/src of ``stage``."""
    found = [
        path
        for directory in ("lib/modules", "usr/lib/modules")
        for path in (tree / directory).glob("*/kernel")
    ]
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
        kept = [
            path for path in (tree / "boot" / f"{name}-{release}", modules / name) if path.exists()
        ]
        if kept:
            shutil.copyfile(kept[0], boot / f"{name}-{release}")
    if (tree / "usr/src").is_dir():
        shutil.move(str(tree / "usr/src"), str(stage / "usr/src"))
    run(tool.command("bin/kmod", "-b", stage, release, name="depmod"), log, "depmod")


def needed_modules(modules: Path) -> list[Path]:
    """The modules below ``modules`` that read disks, those that another needs first.

    modules.dep has those whose symbols a module uses, modules.softdep those that it asks for by
    name when it runs: ext4 of crc32c until Linux 6.14.
    """
    builtin = {
        Path(line).name.partition(".")[0].replace("-", "_")
        for line in (modules / "modules.builtin").read_text().splitlines()
    }
    needs: dict[str, list[str]] = {}
    where: dict[str, str] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        name = Path(path).name.partition(".")[0].replace("-", "_")
        where[name] = path
        needs[name] = [
            Path(other).name.partition(".")[0].replace("-", "_") for other in others.split()
        ]
    wishes: dict[str, list[str]] = {}
    soft = modules / "modules.softdep"
    for line in soft.read_text().splitlines() if soft.exists() else []:
        words = line.split()
        if words[:1] == ["softdep"] and "pre:" in words:
            first = " ".join(words[words.index("pre:") + 1 :]).partition("post:")[0]
            wishes[words[1].replace("-", "_")] = first.replace("-", "_").split()
    # What a module asks for may be another's alias: crc32c is crc32c_generic, where that is one.
    aliases: dict[str, list[str]] = {}
    alias_file = modules / "modules.alias"
    for line in alias_file.read_text().splitlines() if alias_file.exists() else []:
        words = line.split()
        if len(words) == 3:
            aliases.setdefault(words[1].replace("-", "_"), []).append(words[2].replace("-", "_"))
    order: list[str] = []

    def add(name: str) -> None:
        if name in builtin or name in order:
            return
        if name not in where:
            raise ImageError(f"the kernel has no module {name}")
        for other in needs[name]:
            add(other)
        for wish in wishes.get(name, []):
            for other in [wish, *aliases.get(wish, [])]:
                if other in where:
                    add(other)
        order.append(name)

    for name in (*DISK_MODULES, FILE_SYSTEM):
        add(name)
    return [modules / where[name] for name in order]
