"""One test machine: what is written for it, its QEMU, and how it ended."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from images import Kernel, Tools, Userland
from matrix import Row

__all__ = [
    "Machine",
    "checkout_files",
    "in_userland",
    "write_checkout",
    "write_compiled",
    "write_initramfs",
]

HERE = Path(__file__).parent

MEMORY = "1536M"
PROCESSORS = 2
SCRATCH_SIZE = 1 << 30

KERNEL_ARGUMENTS = (
    "console=ttyS0",
    # QEMU ends with a kernel that reboots, and an oops is a failure whatever the tests say.
    "panic=-1",
    "oops=panic",
    # Emulated processors are slow enough to look locked up, and have nothing to mitigate.
    "nowatchdog",
    "mitigations=off",
    # The emulated time stamp counter is sound, though older kernels suspect it and turn to a timer
    # that is far slower to read.
    "tsc=reliable",
    # Every module must come from the build that the kernel comes from.
    "module.sig_enforce=1",
    # 5.10 waits for entropy otherwise.
    "random.trust_cpu=on",
)

# A task of priority 1 that spins on a processor leaves nothing to what has the same priority there.
# In a real-time kernel that is what ends grace periods of RCU, without which nobody detaches.
REAL_TIME_ARGUMENTS = ("rcutree.kthread_prio=2",)

CONSOLE_LINES = 20


def clock_arguments(cpuinfo: str) -> list[str]:
    """What tells the kernel how fast its time stamp counter runs, which is the host's.
    On a busy host it measures that against timers that come late, and its clock may
    then be wrong ten times over. A host that is a virtual machine itself shows the
    counter's rate as that of its processors; another one does not."""
    facts: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        facts[name.strip()] = value.strip()
    if "hypervisor" not in facts.get("flags", "").split() or "cpu MHz" not in facts:
        return []
    return [f"tsc_early_khz={float(facts['cpu MHz']) * 1000:.0f}"]


def checkout_files(root: Path) -> list[str]:
    """The files of a git checkout as it is: tracked ones, and new ones that aren't ignored."""
    command = [
        "git",
        "-C",
        str(root),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    names = (
        subprocess.run(command, stdout=subprocess.PIPE, check=True)
        .stdout.decode(errors="surrogateescape")
        .split("\0")
    )
    return sorted(name for name in set(names) if name and os.path.lexists(root / name))


def write_checkout(root: Path, target: Path, without: Path | None = None) -> None:
    """Pack the checkout at ``root`` as a tar file, for a disk; all files belong to root in it."""

    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member

    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in checkout_files(root):
            path = root / name
            if without is None or without not in path.parents:
                tar.add(path, name, recursive=False, filter=owned)


def in_userland(
    script: str, kernel: Kernel, userland: Userland, checkout: Path, place: Path
) -> list[str]:
    """The command that runs a script of this folder on the host, in a machine's userland. ``place``
    is an empty directory."""
    root = HERE / "compile_root.sh"
    words = ["unshare", "--mount", root, userland.image, kernel.image, checkout, place, script]
    return [str(word) for word in words]


def write_compiled(command: Sequence[str], checkout: Path, target: Path) -> None:
    """Pack the checkout once more, with what ``command``, which runs bytecode.py, prints."""
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    shutil.copyfile(checkout, target)
    with tarfile.open(target, "a", format=tarfile.GNU_FORMAT) as tar:
        with tarfile.open(fileobj=io.BytesIO(made)) as compiled:
            for member in compiled:
                tar.addfile(member, compiled.extractfile(member) if member.isfile() else None)


def write_initramfs(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a cpio archive of executable ``files`` and their directories.

    Kernel: Documentation/driver-api/early-userspace/buffer-format.rst, format newc.
    """
    directories = {
        str(parent) for name in files for parent in Path(name).parents if str(parent) != "."
    }
    directories |= {"dev", "proc", "root", "sys"}
    members = [(name, stat.S_IFDIR | 0o755, b"") for name in sorted(directories)]
    members += [(name, stat.S_IFREG | 0o755, content) for name, content in files.items()]
    members.append(("TRAILER!!!", 0, b""))
    out = io.BytesIO()
    for inode, (name, mode, content) in enumerate(members, 1):
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        out.write(b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0")
        out.write(b"\0" * (-out.tell() % 4) + content)
        out.write(b"\0" * (-out.tell() % 4))
    target.write_bytes(out.getvalue())


class Machine:
    """A virtual machine that runs the tests of a checkout, or a shell, on the kernel of ``row``.

    It writes below ``directory``: console.log, output.log (what pytest prints), results.tar, out of
    that ``report``; and ``temporary``, which `end` removes.
    """

    def __init__(
        self, row: Row, directory: Path, timeout: float = 900, report: str = "junit.xml"
    ) -> None:
        self.row = row
        self.directory = directory
        self.timeout = timeout
        self.temporary = directory / "temporary"
        self.console = directory / "console.log"
        self.output = directory / "output.log"
        self.results = directory / "results.tar"
        self.report = directory / report
        self.again = directory / "again.xml"  # of the tests that had failed, if they ran once more
        # The rest is for QEMU's start and for pytest's report, which take an emulated machine on a
        # busy host half a minute.
        self.test_seconds = int(timeout - min(max(60, timeout * 0.1), timeout / 2))
        self.process: subprocess.Popen[bytes] | None = None
        self.server: subprocess.Popen[bytes] | None = None
        self.status = ""  # of what ran in it, once unpacked
        self.started = 0.0
        self.seconds = 0.0
        self.timed_out = False

    def prepare(
        self,
        tool: Tools,
        kernel: Kernel,
        userland: Userland,
        checkout: Path,
        job: Mapping[str, str],
    ) -> list[str]:
        """Write the machine's files; return the command that starts it, without its console.

        :raises ImageError: if they can't be written.
        """
        shutil.rmtree(self.directory, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        values = {
            "row": self.row.name,
            "release": self.row.release,
            "options": " ".join(sorted(self.row.options)),
            **job,
        }
        files = {
            "init": (HERE / "initramfs.sh").read_bytes(),
            "guest.sh": (HERE / "guest.sh").read_bytes(),
            "job.sh": "".join(
                f"{name}={shlex.quote(value)}\n" for name, value in values.items()
            ).encode(),
            "bin/busybox": tool.busybox.read_bytes(),
        }
        if kernel.modules.is_dir():
            files.update(
                {
                    f"modules/{path.name}": path.read_bytes()
                    for path in sorted(kernel.modules.iterdir())
                }
            )
        initramfs = self.temporary / "initramfs"
        write_initramfs(initramfs, files)
        scratch = self.temporary / "scratch.ext4"
        tool.make_ext4(scratch, SCRATCH_SIZE, self.temporary / "mke2fs.log")

        emulated = os.environ.get("KVM", "") in ("", "0")
        disks = (
            # The userland is written to, in a temporary copy: all machines share the image.
            ("userland", userland.image, "snapshot=on"),
            ("kernel", kernel.image, "readonly=on"),
            ("checkout", checkout, "readonly=on"),
            ("scratch", scratch, "cache=unsafe"),
        )
        arguments: list[str | Path] = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]
        arguments += [
            "-accel",
            "tcg,thread=multi" if emulated else "kvm",
            "-cpu",
            "max",
            "-smp",
            str(PROCESSORS),
            "-m",
            MEMORY,
        ]
        arguments += [
            "-kernel",
            kernel.vmlinuz,
            "-initrd",
            initramfs,
            "-append",
            " ".join(
                [
                    *KERNEL_ARGUMENTS,
                    *(REAL_TIME_ARGUMENTS if "real-time" in self.row.options else ()),
                    *clock_arguments(Path("/proc/cpuinfo").read_text()),
                ]
            ),
        ]
        for name, image, option in disks:
            arguments += [
                "-drive",
                f"if=none,id={name},format=raw,file={str(image).replace(',', ',,')},{option}",
            ]
            # QEMU's default is to stop a machine when the host's disk is full; its tests must fail.
            arguments += ["-device", f"virtio-blk-pci,drive={name},serial={name},werror=report"]
        return tool.qemu(*arguments)

    def ports(self) -> list[str]:
        """QEMU's arguments for console, output and results, which it writes to files."""
        arguments = ["-device", "virtio-serial-pci"]
        for name, path in (("output", self.output), ("results", self.results)):
            arguments += [
                "-chardev",
                f"file,id={name},path={str(path).replace(',', ',,')}",
                "-device",
                f"virtserialport,chardev={name},name={name}",
            ]
        return [
            "-chardev",
            f"file,id=console,path={str(self.console).replace(',', ',,')}",
            "-serial",
            "chardev:console",
            *arguments,
        ]

    def compiler(self, kernel: Kernel, userland: Userland, checkout: Path) -> list[str]:
        """The command that starts what compiles for the machine on the host."""
        place = self.temporary / "compiler"
        place.mkdir()
        return in_userland("compile_server.py", kernel, userland, checkout, place)

    def start(self, command: Sequence[str], compiler: Sequence[str] = ()) -> None:
        """Start ``command``, this machine's QEMU, and ``compiler``, if any, with a port of the
        machine for its standard input and output; they end with us, even if we are killed."""
        log = self.temporary / "qemu.log"
        ours: list[socket.socket] = []
        if compiler:
            ours += socket.socketpair()
            port = ours[0].fileno()
            with (self.directory / "compiler.log").open("wb") as errors:
                self.server = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *compiler],
                    stdin=ours[1].fileno(),
                    stdout=ours[1].fileno(),
                    stderr=errors,
                )
            command = [*command, "-chardev", f"socket,id=compiler,fd={port}"]
            command += ["-device", "virtserialport,chardev=compiler,name=compiler"]
        # QEMU keeps what is written to the userland in TMPDIR.
        environment = {**os.environ, "TMPDIR": str(self.temporary)}
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=environment,
                start_new_session=True,
                pass_fds=[end.fileno() for end in ours[:1]],
            )
        for end in ours:
            end.close()
        self.started = time.monotonic()

    def running(self) -> bool:
        """Whether it still runs; a machine whose time is over is ended."""
        if self.process is None:
            return False
        self.seconds = time.monotonic() - self.started
        if self.process.poll() is not None:
            return False
        if self.seconds > self.timeout:
            self.timed_out = True
            self.end()
            return False
        return True

    def end(self) -> None:
        """Kill what still runs and remove what only a running machine needs."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.server is not None:
            self.server.kill()
            self.server.wait()
            self.server = None
        if self.process is not None:
            log = self.temporary / "qemu.log"
            if log.exists() and log.stat().st_size:
                shutil.copyfile(log, self.directory / "qemu.log")
        shutil.rmtree(self.temporary, ignore_errors=True)

    def text(self, path: Path) -> str:
        return path.read_text(errors="replace").replace("\r", "") if path.exists() else ""

    def unpack(self) -> str | None:
        """Unpack the report from the results; return None, or why the machine proved nothing."""
        console = self.text(self.console)
        if self.timed_out:
            return f"still running after {self.timeout:.0f} s: {self.last_test()}"
        if panic := re.search(r"Kernel panic - not syncing: (.*)", console):
            return f"kernel panic: {panic[1]}: {self.last_test()}"
        if broken := re.search(r"^guest: (?!tests )(.*)", console, re.M):
            return broken[1]
        try:
            with tarfile.open(self.results) as tar:
                status = self.status = self.member(tar, "./status").decode().strip()
                late = f"tests still running after {self.test_seconds} s: {self.last_test()}"
                if status == "124" and f"./{self.report.name}" not in tar.getnames():
                    return late
                report = self.member(tar, f"./{self.report.name}")
                again = None
                if f"./{self.again.name}" in tar.getnames():
                    again = self.member(tar, f"./{self.again.name}")
        except (tarfile.TarError, OSError, KeyError):
            return f"{self.ending()} before its results: {self.last_test()}"
        self.report.write_bytes(report)
        if again is not None:
            self.again.write_bytes(again)
        self.results.unlink()
        if status == "124":
            return late
        if status == "5":
            return "no test is selected"
        # 0: all passed, 1: some did not, as the report says.
        return (
            None
            if status in ("0", "1")
            else f"pytest ended with status {status}: {self.last_line(self.output)}"
        )

    @staticmethod
    def member(tar: tarfile.TarFile, name: str) -> bytes:
        file = tar.extractfile(name)
        if file is None:
            raise KeyError(name)
        return file.read()

    def ending(self) -> str:
        status = self.process.returncode if self.process is not None else None
        if status is not None and status < 0:
            return f"killed by {signal.Signals(-status).name}"
        if status:
            return f"QEMU failed ({self.last_line(self.directory / 'qemu.log')})"
        return "ended"

    def last_line(self, path: Path) -> str:
        lines = [line for line in self.text(path).splitlines() if line.strip()]
        return lines[-1].strip() if lines else "no output"

    def last_test(self) -> str:
        """The test that ran last, as ``pytest -v`` prints its name before it starts."""
        tests = re.findall(r"^(\S+::\S+(?: .*)?)$", self.text(self.output), re.M)
        return f"last test {tests[-1]}" if tests else "no test had started"

    def last_console_lines(self) -> list[str]:
        """The console's last lines; of a kernel that died, the first ones about that."""
        lines = self.text(self.console).splitlines()
        for number, line in enumerate(lines):
            if re.search(
                r"\] (BUG: |Oops: |general protection fault|Kernel panic|sysrq: Trigger a crash)",
                line,
            ):
                return lines[number : number + CONSOLE_LINES]
        return lines[-CONSOLE_LINES:]
