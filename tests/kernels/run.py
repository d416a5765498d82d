#!/usr/bin/python3
"""Run the tests on every supported kernel, each in a virtual machine with a matching userland.

    run.py test                                  all kernels
    run.py test --kernels 6.12,7.3               these
    run.py test --tests 'opensnoop and not json' these tests (pytest's -k)
    run.py shell 7.3                             a shell in one
    run.py images                                build what is missing, run nothing
    run.py compare                               bcc's own tools and ours on the same workloads
    run.py bench                                 parts of bench/run that need kernel functions
    run.py list                                  the kernels in the table

docs/kernels.md says more.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

sys.dont_write_bytecode |= __name__ == "__main__"

import proved  # noqa: E402
from arm64 import arm64_tools, arm64_userland  # noqa: E402
from cache import cache_directory  # noqa: E402
from comparison import Compared, page, read_comparison  # noqa: E402
from debian import ImageError, MissingPackage  # noqa: E402
from inputs import Asked, Checkout, NotCollected, ask, unit_key  # noqa: E402
from images import Kernel, Tools, Userland, kernel, tools, userland  # noqa: E402
from machine import Machine, in_userland, write_checkout, write_compiled  # noqa: E402
from matrix import TABLE, MatrixError, Row, choose, read  # noqa: E402
from proved import Proof  # noqa: E402
from results import RowResult, read_junit, second_time, summary  # noqa: E402

CHECKOUT = Path(__file__).resolve().parents[2]
RESULTS = CHECKOUT / "build" / "kernels"
COMPARED = CHECKOUT / "docs" / "compared-with-bcc.md"
# What a userland has beside the usual where bcc's tools run, and where the bench's loads
# are compiled.
BCC_PACKAGES = ("bpfcc-tools",)
BENCH_PACKAGES = (*BCC_PACKAGES, "gcc", "libc6-dev")
# No userland has bpftrace, which brings LLVM; tests read its tools in build/bpftrace.
BPFTRACE_TOOLS = Path("/usr/sbin")
BENCH_PARTS = "functions starts"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it SIGTERM and SIGHUP are like Ctrl-C: all that runs is ended on the way out."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


class Images:
    """What rows' machines are made of, built or found in the cache row by row: what the next
    machine needs is built while others run.

    :raises ImageError: if there is no QEMU, without which no row can run.
    """

    def __init__(self, extra: tuple[str, ...] = ()) -> None:
        self.tools: dict[str, Tools] = {"amd64": tools(say)}
        self.extra = extra
        self.userlands: dict[tuple[str, str], Userland | ImageError] = {}
        self.kernels: dict[str, Kernel] = {}

    def build(self, row: Row) -> None:
        """Have the row's userland and kernel.

        :raises ImageError: if one of them can't be had.
        """
        if row.architecture not in self.tools:
            self.tools[row.architecture] = arm64_tools(say)
        self.compiling_userland(row)
        if row.name not in self.kernels:
            self.kernels[row.name] = kernel(row, self.tools[row.architecture], say)
        self.userland(row)

    def userland(self, row: Row) -> Userland:
        """The userland that runs on the row's kernel."""
        return self._userland(row, row.architecture)

    def compiling_userland(self, row: Row) -> Userland:
        """The same that runs on this host: its compiler is that of the machine."""
        return self._userland(row, "amd64")

    def _userland(self, row: Row, architecture: str) -> Userland:
        wanted = row.userland, architecture
        if wanted not in self.userlands:
            try:
                if architecture == "amd64":
                    made = userland(row.userland, self.tools["amd64"], say, self.extra)
                else:
                    made = arm64_userland(
                        row.userland,
                        self.tools[architecture],
                        self.kernels[row.name],
                        say,
                        self.extra,
                    )
            except ImageError as error:
                # Once is enough: without a network each attempt takes a while.
                self.userlands[wanted] = error
                raise
            self.userlands[wanted] = made
        found = self.userlands[wanted]
        if isinstance(found, ImageError):
            raise found
        return found

    def require(self, rows: list[Row]) -> Images:
        """Themselves, when every row has all it needs.

        :raises ImageError: the first row's reason otherwise.
        """
        for row in rows:
            self.build(row)
        return self

    def packages(self, row: Row) -> list[str]:
        """What the row's machine is made of: ``"linux-image-6.12.90 6.12.90-1"``, the packages of
        its kernel and of its userland with their versions; of the one that compiles for it as well,
        if that is another.

        :raises ImageError: if an image doesn't say.
        """
        tool = self.tools[row.architecture]
        found = [*self.kernels[row.name].packages(), *self.userland(row).packages(tool)]
        if row.architecture != "amd64":
            others = self.compiling_userland(row).packages(tool)
            found += [f"compiles: {package}" for package in others]
        return found

    def command(self, machine: Machine, checkout: Path, **job: str) -> list[str]:
        """Write the machine's files; the command that starts it, without its console."""
        row = machine.row
        return machine.prepare(
            self.tools[row.architecture],
            self.kernels[row.name],
            self.userland(row),
            checkout,
            job,
        )

    def compiler(self, machine: Machine, checkout: Path) -> list[str]:
        """The command that starts what compiles for the machine on this host. It takes root: bcc
        makes a program's maps when it compiles it."""
        row = machine.row
        command = machine.compiler(self.kernels[row.name], self.compiling_userland(row), checkout)
        # bcc's name of the processor to compile for, if it isn't the host's.
        if row.architecture != "amd64":
            command = ["env", f"ARCH={row.architecture}", *command]
        return command

    def compiled(self, row: Row, checkout: Path) -> Path:
        """The checkout with what the Python of the row's userland makes of its modules, which takes
        root; one file for all rows of that userland. The machine makes what can't be made here."""
        target = checkout.with_name(f"checkout-{row.userland}.tar")
        if not target.exists():
            with tempfile.TemporaryDirectory() as place:
                command = in_userland(
                    "bytecode.py",
                    self.kernels[row.name],
                    self.compiling_userland(row),
                    checkout,
                    Path(place),
                )
                write_compiled(command, checkout, target)
        return target


def take_turn(places: int) -> IO[str] | None:
    """One of the host's ``places`` for a machine, until what is returned is closed; None if all
    are taken. Two runs on two processors otherwise make both so slow that they prove nothing."""
    directory = cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(places):
        file = (directory / f"place-{number}").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            file.close()
    return None


def run_machines(
    machines: list[Machine],
    start: Callable[[Machine], None],
    jobs: int,
    ended: Callable[[Machine], None],
) -> None:
    """Run ``machines``, at most ``jobs`` at a time; whatever happens, none is left running.
    ``start`` may leave one that need not run.

    Those of several runs on one host take turns.
    """
    places = max(jobs, os.cpu_count() or 1)
    waiting = list(machines)
    active: dict[Machine, IO[str]] = {}
    told = False
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                place = take_turn(places)
                if place is None:
                    if not told:
                        say("waiting for a machine of another run to end")
                    told = True
                    break
                machine = waiting.pop(0)
                active[machine] = place
                start(machine)
                if machine.process is None:
                    active.pop(machine).close()
            time.sleep(0.1)
            for machine in [machine for machine in active if not machine.running()]:
                machine.end()
                active.pop(machine).close()
                ended(machine)
    finally:
        for machine in active:
            machine.end()


@contextmanager
def checkout_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pytools-kernels-") as directory:
        disk = Path(directory) / "checkout.tar"
        write_checkout(CHECKOUT, disk, without=RESULTS)
        with tarfile.open(disk, "a") as tar:
            for path in sorted(BPFTRACE_TOOLS.glob("*.bt")):
                tar.add(path, f"build/bpftrace/{path.name}")
        yield disk


def units_of(asked: Asked, row: Row, tools: Collection[str]) -> list[str]:
    """The units that a row has: between the oldest and the newest, those that every kernel has.

    Kernel and userland of a row without types are those of the row with them, which has proved all
    that no type is read for: there only the tools' own tests run, and those of what goes wrong.
    """
    modules = {"test_compiler", "test_errors", *(f"test_{tool}" for tool in tools)}
    return [
        unit
        for unit, parts in asked.units.items()
        if (parts["every"] or not row.between)
        and ("no-btf" not in row.options or unit.split()[0] in modules and parts["tests"])
    ]


class Proving:
    """What has to run on each row, and what is written down of it.

    ``snapshot`` is a copy of the checkout as the machines have it, whatever is edited meanwhile.
    With ``everything``, rows between the oldest and the newest run all tests, proved or not.
    """

    def __init__(
        self, images: Images, snapshot: Path, tests: str, fresh: bool, everything: bool
    ) -> None:
        self.images = images
        self.tests = tests
        self.fresh = fresh or everything
        self.everything = everything
        self.checkout = Checkout(snapshot)
        self.asked = ask(snapshot)
        self.record = proved.read(proved.RECORD)
        self.commit = proved.commit_of(CHECKOUT)
        self.keys: dict[str, dict[str, str]] = {}  # by row and unit
        self.before: dict[str, list[Proof]] = {}

    def look(self, row: Row) -> None:
        """See what of a row is proved, once it has its images."""
        packages = self.images.packages(row)
        self.keys[row.name] = {
            unit: unit_key(self.checkout, self.asked, row, packages, unit)
            for unit in units_of(self.asked, row, self.checkout.tools)
        }
        found = proved.proofs_of(self.record, row.name, self.keys[row.name])
        self.before[row.name] = [] if self.fresh else found

    def left(self, row: Row) -> list[str]:
        """The units that are to run on a row."""
        before = {proof.unit for proof in self.before[row.name]}
        return [unit for unit in self.keys[row.name] if unit not in before]

    def summary(self, row: Row) -> str:
        """When what is proved of a row was."""
        whens = Counter((proof.day, proof.commit) for proof in self.before[row.name])
        parts = [f"{whens[when]} on {when[0]} at {when[1]}" for when in sorted(whens)]
        return ", ".join(parts)

    def job(self, row: Row, seconds: int) -> dict[str, str]:
        """What the machine of a row is told."""
        marks = "not rendering and not host_only"
        if "no-btf" in row.options:
            marks += " and not any_types"
        if row.between and not self.everything:
            marks += " and every_kernel"
        units = self.asked.units if self.everything and row.between else self.left(row)
        modules = sorted({unit.split()[0] for unit in units})
        return {
            "action": "test",
            "tests": self.tests,
            "seconds": str(seconds),
            "marks": marks,
            "modules": " ".join(f"tests/{module}.py" for module in modules),
            "proved": "\n".join(proof.unit for proof in self.before[row.name]),
        }

    def keep(self, result: RowResult) -> None:
        """Write down what a run of a row has proved, and strike out what it has not."""
        row = result.row
        units = self.left(row)
        # Another run may have written to it.
        self.record = proved.read(proved.RECORD)
        tools = {unit: self.checkout.tools_of(unit) for unit in units}
        good, complaints = proved.passed_units(result, units, tools, bool(self.tests))
        if Checkout(CHECKOUT).machine() != self.checkout.machine():
            good, complaints = [], ["what the machines are made of has changed: not recorded"]
        for complaint in complaints:
            say(f"{row.name}: {complaint}")
        for unit in units:
            tried = not self.tests or any(test.unit == unit for test in result.results)
            known = self.record.get((row.name, unit))
            if tried and known is not None and known.key == self.keys[row.name][unit]:
                del self.record[row.name, unit]
        today = proved.today()
        new = [
            Proof(row.name, unit, self.keys[row.name][unit], self.commit, today) for unit in good
        ]
        self.record.update({(proof.row, proof.unit): proof for proof in new})
        rows = {each.name for each in read(TABLE.read_text())}
        proofs = [
            proof
            for proof in self.record.values()
            if proof.row in rows and proof.unit in self.asked.units
        ]
        proved.write(proved.RECORD, proofs)


def test(
    rows: list[Row],
    tests: str,
    jobs: int,
    timeout: float,
    fresh: bool,
    everything: bool = False,
) -> int:
    """Run the tests on ``rows`` and print the table; 0 if every row passed.

    What is proved of a row, by the record, runs again only if ``fresh``; with ``everything`` all
    tests run on all rows.
    """
    images = Images()
    # Those that have fewer tests last: none that takes long runs alone at the end.
    in_order = sorted(rows, key=lambda row: (row.between, "no-btf" in row.options))
    machines = [Machine(row, RESULTS / row.name, timeout) for row in in_order]
    done: dict[str, RowResult] = {}

    def ended(machine: Machine) -> None:
        row = machine.row
        result = RowResult(row, machine.seconds, trouble=machine.unpack())
        try:
            if machine.report.exists():
                result.results = read_junit(machine.report.read_bytes(), row)
            if machine.again.exists():
                again = read_junit(machine.again.read_bytes(), row)
                result.results = second_time(result.results, again)
        except ValueError as error:
            result.trouble = result.trouble or str(error)
        result.proved = len(proving.before[row.name])
        result.proofs = proving.summary(row)
        done[row.name] = result
        proving.keep(result)
        say(
            f"{row.name}: {'pass' if result.passed else 'FAIL'} in {machine.seconds:.0f} s"
            + (f": {result.trouble}" if result.trouble else "")
        )
        if result.trouble is not None:
            for line in machine.last_console_lines():
                say(f"  | {line}")

    with checkout_disk() as disk:
        snapshot = disk.with_name("checkout")
        with tarfile.open(disk) as tar:
            tar.extractall(snapshot)
        proving = Proving(images, snapshot, tests, fresh, everything)

        def start(machine: Machine) -> None:
            row = machine.row
            # What an earlier run left there says nothing of this one.
            shutil.rmtree(RESULTS / row.name, ignore_errors=True)
            try:
                images.build(row)
                proving.look(row)
            except ImageError as error:
                done[row.name] = RowResult(row, 0.0, trouble=str(error))
                say(f"{row.name}: FAIL: {error}")
                return
            left = proving.left(row)
            if not left:
                done[row.name] = RowResult(
                    row, 0.0, proved=len(proving.before[row.name]), proofs=proving.summary(row)
                )
                say(f"{row.name}: proved before, with the same inputs; FRESH=1 runs it again")
                return
            say(f"{row.name}: {len(left)} units to run, {len(proving.before[row.name])} proved")
            job = proving.job(row, machine.test_seconds)
            modules = disk
            if os.geteuid() == 0:
                job["compiler"] = "host"
                modules = images.compiled(row, disk)
            command = images.command(machine, modules, **job)
            compiler = images.compiler(machine, disk) if "compiler" in job else []
            machine.start([*command, *machine.ports()], compiler)

        run_machines(machines, start, jobs, ended)
    results = [done[row.name] for row in rows]
    print(summary(results), flush=True)
    say(f"console, output and JUnit XML of each: {RESULTS}")
    return 0 if all(result.passed for result in results) else 1


def with_headers(row: Row, name: str) -> Row:
    """The row of a machine of its own, whose kernel has its headers: bcc's tools need them."""
    return replace(row, name=f"{row.name}-{name}", options=row.options | {"headers"})


def compare(rows: list[Row], every: list[Row], jobs: int, timeout: float) -> int:
    """Run bcc's tools and ours on ``rows``; 0 if ours were right on each.

    The page is written when all of ``every`` have been compared, now or before.
    """
    notes: dict[str, str] = {}
    variants = []
    images = Images(BCC_PACKAGES)
    for row in rows:
        variant = with_headers(row, "compare")
        try:
            images.build(variant)
        except MissingPackage as error:
            say(f"{row.name}: {error}")
            notes[variant.name] = (
                f"{row.name}: Debian's archive no longer has this kernel's headers, so that bcc's "
                "tools had none, as on any machine with it."
            )
            variant = replace(variant, options=row.options)
        variants.append(variant)
    images.require(variants)
    machines = [
        Machine(row, RESULTS / row.name, timeout, report="comparison.json") for row in variants
    ]
    trouble: dict[str, str] = {}

    def ended(machine: Machine) -> None:
        found = machine.unpack()
        say(f"{machine.row.name}: {found or 'compared'} in {machine.seconds:.0f} s")
        if found is not None:
            trouble[machine.row.name] = found
            machine.report.unlink(missing_ok=True)
            for line in machine.last_console_lines():
                say(f"  | {line}")
        elif machine.row.name in notes:
            (machine.directory / "note").write_text(notes[machine.row.name])

    with checkout_disk() as disk:

        def start(machine: Machine) -> None:
            job = {"action": "compare", "tests": "", "seconds": str(machine.test_seconds)}
            machine.start([*images.command(machine, disk, **job), *machine.ports()])

        run_machines(machines, start, jobs, ended)
    kernels: list[Compared] = []
    for row in every:
        directory = RESULTS / f"{row.name}-compare"
        note = directory / "note"
        if (directory / "comparison.json").exists():
            kernels.append(
                read_comparison(
                    row.name,
                    directory / "comparison.json",
                    note.read_text() if note.exists() else "",
                )
            )
    if len(kernels) == len(every):
        COMPARED.write_text(page(kernels, COMPARED.read_text()))
        say(f"written: {COMPARED}")
    elif kernels:
        print(page(kernels), flush=True)
        say(f"not all kernels have been compared: {COMPARED} is as it was")
    ours = {kernel.name: kernel.ours_are_right for kernel in kernels}
    return 0 if not trouble and all(ours.get(row.name) for row in rows) else 1


def bench(rows: list[Row], parts: str, timeout: float) -> int:
    """Run ``parts`` of the bench on ``rows``, one after the other, beside bcc's tools; 0 if
    every limit was held."""
    rows = [with_headers(row, "bench") for row in rows]
    images = Images(BENCH_PACKAGES).require(rows)
    machines = [Machine(row, RESULTS / row.name, timeout, report="bench.txt") for row in rows]
    failed: list[str] = []

    def ended(machine: Machine) -> None:
        trouble = machine.unpack()
        print(f"{machine.row.name}: {trouble or 'measured'} in {machine.seconds:.0f} s", flush=True)
        if trouble is None:
            print(machine.report.read_text(), flush=True)
        else:
            for line in [*machine.last_console_lines(), machine.text(machine.output)]:
                say(f"  | {line}")
        if trouble or machine.status != "0":
            failed.append(machine.row.name)

    with checkout_disk() as disk:

        def start(machine: Machine) -> None:
            job = {"action": "bench", "tests": parts, "seconds": str(machine.test_seconds)}
            machine.start([*images.command(machine, disk, **job), *machine.ports()])

        run_machines(machines, start, 1, ended)
    return int(bool(failed))


def installed(rows: list[Row], timeout: float) -> int:
    """Install the Debian package on ``rows``, one after the other, run it and purge it
    (tests/packages/in_machine.py); 0 if that went well on each."""
    build = [str(CHECKOUT / "packaging" / "package"), "deb"]
    package = subprocess.run(build, stdout=subprocess.PIPE, check=True, text=True).stdout.split()[
        -1
    ]
    images = Images(("bash-completion", "man-db")).require(rows)
    machines = [Machine(row, RESULTS / f"{row.name}-installed", timeout) for row in rows]
    failed: list[str] = []

    def ended(machine: Machine) -> None:
        trouble = machine.unpack()
        if trouble is None:
            result = RowResult(machine.row, machine.seconds)
            result.results = read_junit(machine.report.read_bytes(), machine.row)
            trouble = None if result.passed else f"see {machine.directory}/output.log"
        say(f"{machine.row.name}: {trouble or 'installed'} in {machine.seconds:.0f} s")
        failed.extend([machine.row.name] * bool(trouble))

    with checkout_disk() as disk:
        with tarfile.open(disk, "a") as tar:
            tar.add(package, "pytools.deb")

        def start(machine: Machine) -> None:
            job = {"action": "installed", "tests": "", "seconds": str(machine.test_seconds)}
            machine.start([*images.command(machine, disk, **job), *machine.ports()])

        run_machines(machines, start, 1, ended)
    return int(bool(failed))


def shell(row: Row) -> int:
    """Run a shell on ``row``, on this terminal."""
    images = Images().require([row])
    columns, lines = shutil.get_terminal_size()
    with checkout_disk() as disk, tempfile.TemporaryDirectory(
        prefix="pytools-kernels-"
    ) as directory:
        machine = Machine(row, Path(directory) / row.name)
        command = images.command(
            machine, disk, action="shell", rows=str(lines), columns=str(columns)
        )
        say("Ctrl-A X ends the machine")
        # In the terminal's own process group: QEMU reads it, and Ctrl-C is for the shell inside.
        environment = {**os.environ, "TMPDIR": directory}
        qemu = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command, "-serial", "mon:stdio"], env=environment
        )
        try:
            return qemu.wait()
        finally:
            qemu.kill()
            qemu.wait()


def options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    environment = os.environ
    parser.add_argument(
        "action", choices=("test", "shell", "images", "compare", "bench", "installed", "list")
    )
    parser.add_argument(
        "kernel", nargs="?", default=environment.get("KERNEL", ""), help="the kernel of a shell"
    )
    parser.add_argument(
        "--kernels",
        default=environment.get("KERNELS", ""),
        help="names from the table (default: $KERNELS, else all)",
    )
    parser.add_argument(
        "--tests",
        default=environment.get("TESTS", ""),
        help="pytest's -k expression (default: $TESTS, else all tests)",
    )
    parser.add_argument(
        "--parts",
        default=environment.get("PARTS") or BENCH_PARTS,
        help="parts of the bench (default: $PARTS, else %(default)s)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=environment.get("JOBS") or (os.cpu_count() or 1) + 1,
        help="machines at a time (default: $JOBS, else %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=environment.get("TIMEOUT") or "1500",
        help="seconds for one machine (default: $TIMEOUT, else %(default)s)",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        default=environment.get("FRESH", "") not in ("", "0"),
        help="run what is proved as well (default: $FRESH)",
    )
    parser.add_argument(
        "--everything",
        action="store_true",
        default=environment.get("EVERYTHING", "") not in ("", "0"),
        help="run all tests on rows between the oldest and the newest, too (default: $EVERYTHING)",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    chosen = options(arguments)
    try:
        with interruptible():
            return act(chosen)
    except (MatrixError, ImageError, NotCollected) as error:
        say(f"kernels: {error}")
    except OSError as error:
        say(f"kernels: {error.strerror}: {error.filename}")
    except subprocess.CalledProcessError as error:
        say(f"kernels: {error.cmd[0]} failed with status {error.returncode}")
    except KeyboardInterrupt:
        say("kernels: interrupted")
        return 130
    return 1


def act(chosen: argparse.Namespace) -> int:
    """Do what the command line asks for; the exit status."""
    rows = read(TABLE.read_text())
    if chosen.action == "list":
        print("\n".join(row.name for row in rows))
        return 0
    if chosen.action == "shell":
        if not chosen.kernel:
            raise MatrixError(f"which kernel? The table has: {' '.join(row.name for row in rows)}")
        return shell(choose(rows, chosen.kernel)[0])
    if chosen.action == "compare":
        # Without BTF there are fewer of ours to compare: the fallback is the same reading.
        # A real-time kernel and one of another architecture are other builds of the same.
        rows = [row for row in rows if not {"arm64", "no-btf", "real-time"} & row.options]
        return compare(choose(rows, chosen.kernels), rows, max(1, chosen.jobs), chosen.timeout)
    rows = choose(rows, chosen.kernels)
    if chosen.action == "bench":
        # Those with options are the same kernels again.
        return bench([row for row in rows if not row.options], chosen.parts, chosen.timeout)
    if chosen.action == "installed":
        # Without headers, as most machines are.
        return installed([row for row in rows if not row.options], chosen.timeout)
    if chosen.action == "images":
        Images().require(rows)
        return 0
    return test(
        rows,
        chosen.tests,
        max(1, chosen.jobs),
        chosen.timeout,
        chosen.fresh,
        chosen.everything,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
