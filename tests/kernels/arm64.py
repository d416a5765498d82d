"""Machines with an arm64 processor: their QEMU, and a userland that no program of the host can run.

Debian's packages are unpacked on the host. What their scripts do to install them happens in a
machine (install.sh), for which the host needs nothing beyond what the other rows need.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from cache import entry
from debian import Apt, fail, mmdebstrap, run
from images import (
    TOOLS_PACKAGES,
    TOOLS_SUITE,
    USERLAND_PACKAGES,
    Kernel,
    Tools,
    Userland,
    build_tools,
    make_root,
)
from machine import HERE, write_initramfs

__all__ = ["Arm64Tools", "arm64_tools", "arm64_userland"]

PACKAGES = (*(name for name in TOOLS_PACKAGES if name != "qemu-system-x86"), "qemu-system-arm")
# Where there is no libseccomp, bcc's table stands in for it; that one is of x86-64.
MORE_PACKAGES = ("libseccomp2",)

# All that QEMU knows of such processors: user programs sign their return addresses, as on
# the machines of today, by the fast one of the algorithms. Without the long vector registers,
# which nobody here uses and each context switch would move.
PROCESSOR = "max,pauth-impdef=on,sve=off,sme=off"
# The machine's serial port; ttyS0, a PCI card, is there for a shell.
CONSOLE = "console=ttyAMA0"
NOT_ARM64 = ("tsc=", "tsc_early_khz=")

INSTALLED = "install: done"
INSTALL_SECONDS = 3600


class Arm64Tools(Tools):
    """The same programs of the host's architecture, with QEMU and busybox for arm64."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.busybox = root / "arm64/usr/bin/busybox"

    def qemu(self, *arguments: str | Path) -> list[str]:
        """The command for a machine that ``arguments`` describe as one of x86-64."""
        words = [str(word) for word in arguments]
        for number, option in enumerate(words[:-1], 1):
            if option == "-cpu":
                words[number] = PROCESSOR
            elif option == "-accel":
                words[number] = "tcg,thread=multi"
            elif option == "-append":
                kept = [word for word in words[number].split() if not word.startswith(NOT_ARM64)]
                words[number] = " ".join([CONSOLE, *kept])
        share = self.root / "usr/share/qemu"
        return self.command("bin/qemu-system-aarch64", "-L", share, "-machine", "virt", *words)


def arm64_tools(say: Callable[[str], None]) -> Arm64Tools:
    """QEMU for arm64, and what else the host need not have.

    :raises ImageError: if they can't be had.
    """

    def build(place: Path, scratch: Path) -> None:
        build_tools(Arm64Tools(place), PACKAGES, scratch)
        Apt(TOOLS_SUITE, scratch / "apt", "arm64").unpack(["busybox-static"], place / "arm64")

    return Arm64Tools(entry("tools", "qemu-arm64", [TOOLS_SUITE, PACKAGES], build, say))


def arm64_userland(
    suite: str,
    tool: Tools,
    kernel: Kernel,
    say: Callable[[str], None],
    extra: Sequence[str] = (),
) -> Userland:
    """The userland of a Debian suite, installed in a machine that runs ``kernel``.

    :raises ImageError: if it can't be built.
    """
    packages = (*USERLAND_PACKAGES, *MORE_PACKAGES, *extra)
    script = (HERE / "install.sh").read_text()

    def build(place: Path, scratch: Path) -> None:
        tar = scratch / "root.tar"
        # apt's pattern is an argument of its own, for it may hold commas.
        mmdebstrap(
            "extract",
            suite,
            packages,
            tar,
            "--include=?essential",
            "--architectures=arm64",
            "--skip=cleanup/apt/cache",
        )
        image = Userland(place).image
        make_root(image, tar, tool, scratch)
        install(image, tool, kernel, scratch)
        tool.check_ext4(image, scratch / "e2fsck.log")

    name = "-".join((suite, "arm64", *extra))
    return Userland(entry("userland", name, [suite, packages, script], build, say))


def install(image: Path, tool: Tools, kernel: Kernel, scratch: Path) -> None:
    """Have a machine install the packages that are unpacked in ``image``."""
    initramfs = scratch / "initramfs"
    write_initramfs(
        initramfs,
        {
            "init": (HERE / "initramfs.sh").read_bytes(),
            "guest.sh": (HERE / "install.sh").read_bytes(),
            "job.sh": b"",
            "bin/busybox": tool.busybox.read_bytes(),
            **kernel.initial_modules(),
        },
    )
    file = str(image).replace(",", ",,")
    command = tool.qemu(
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-accel", "", "-cpu", "", "-smp", "2", "-m", "1536M"),
        *("-kernel", kernel.vmlinuz, "-initrd", initramfs, "-append", "panic=-1"),
        # What the disk has is written out when the entry is complete (cache.py).
        *("-drive", f"if=none,id=userland,format=raw,file={file},cache=unsafe"),
        *("-device", "virtio-blk-pci,drive=userland,serial=userland,werror=report"),
    )
    log = scratch / "console.log"
    run(["timeout", str(INSTALL_SECONDS), *command], log, "qemu")
    if not re.search(f"^{INSTALLED}", log.read_text(errors="replace"), re.M):
        fail("dpkg", log)
