"""A tool's BPF program: rendered, compiled or found in the cache, loaded, attached."""
from __future__ import annotations

import os
import sys

from pytools import __version__
from pytools.base.annotations import TYPE_CHECKING
from pytools.base import cache
from pytools.facts import kernel
from pytools.load import loader
from pytools.load.attach import Attachment, Sampling, attach, attach_user
from pytools.compile.image import Image, ProgramSpec
from pytools.load.loader import Loaded
from pytools.load.maps import Map
from pytools.compile.unrendered import Unrendered

if TYPE_CHECKING:
    from typing import Callable, Mapping, Sequence

    from pytools.facts.elf import File, Probe
    from pytools.load.multi_attach import Target

__all__ = ["Program", "bcc_state", "cached_name", "own_state", "prepare"]

# From facts on a kernel and a template to an image. What a tool adds is in the template.
ROOMS = ("facts", "compile")
LIBRARY = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


class Program:
    """A program in the kernel: its maps, and what it is attached to."""

    def __init__(
        self,
        loaded: Loaded,
        running: kernel.Kernel,
        image: Image,
        source: Unrendered,
        say: Callable[[str], None],
    ) -> None:
        self.maps: Mapping[str, Map] = loaded.maps
        self._loaded = loaded
        self._running = running
        self._image = image
        self._source = source
        self._say = say
        self._attachment: Attachment | None = None
        self._missed_before = 0

    def attach(self, sampling: Sampling = Sampling()) -> None:
        """Attach every program but those of user functions; raises Failure, with
        nothing left attached. ``sampling`` says when those on perf events run."""
        self._attachment = attach(self._loaded, self._running, sampling)
        for line in self._attachment.said:
            self._say(f"attached to {line}")

    def descriptor(self, name: str) -> int:
        """The file descriptor of the program of that name (template.Hook)."""
        return next(fd for program, fd in self._loaded.programs if program.name == name)

    @property
    def targets(self) -> set[str]:
        """What the programs are for (template.Hook.target)."""
        return {program.target for program, _ in self._loaded.programs}

    def say(self, line: str) -> None:
        """Say what was done, with -v."""
        self._say(line)

    def attach_uprobe(
        self, label: str, file: File, offsets: Sequence[int], pid: int = -1
    ) -> list[int]:
        """Attach the template's UPROBE and URETPROBE of that label to the functions at
        offsets in a file, for all processes or for one; at which they were not
        before (the same file may have several names). After ``attach``; raises
        Failure, with what was attached before left as it is."""
        programs = [
            pair
            for pair in self._loaded.programs
            if pair[0].kind.startswith(("uprobe", "uretprobe")) and pair[0].target == label
        ]
        return self._attach_user(programs, file, [(offset, 0) for offset in offsets], pid)

    def attach_usdt(
        self, label: str, file: File, probes: Sequence[Probe], pid: int = -1
    ) -> list[int]:
        """The same for the template's USDT of that label, at places of a probe, whose
        arguments are among those that the source names (``probes``)."""
        new = []
        for number, arguments in enumerate(self._source.probes[label]):
            name = f"usdt__{label}__{number}"
            programs = [pair for pair in self._loaded.programs if pair[0].name == name]
            places = [(p.offset, p.semaphore) for p in probes if p.arguments == arguments]
            new += self._attach_user(programs, file, places, pid)
        return new

    def attach_many(
        self,
        label: str,
        targets: Sequence[Target],
        progress: Callable[[int, int], None],
        returns: bool = False,
        stacks: bool = False,
        pid: int = -1,
    ) -> list[Target]:
        """Attach the template's PROBES of that label to all targets, or to where these functions
        return; those that the kernel refuses are returned. ``progress`` is told how many of how
        many are done; ``stacks`` says that the program takes the kernel's stack; with ``pid``,
        places in files are those of one process. After ``attach``; raises Failure."""
        from pytools.load.multi_attach import attach_many  # not for most tools

        assert self._attachment is not None
        (spec,) = (p for p in self._image.programs if (p.kind, p.target) == ("probes", label))
        said = len(self._attachment.said)
        refused = attach_many(
            self._attachment, self._loaded, spec, self._source.settings, targets, self._running,
            progress, returns, pid, stacks,
        )  # fmt: skip
        for line in self._attachment.said[said:]:
            self._say(f"attached to {line}")
        return refused

    def _attach_user(
        self,
        programs: list[tuple[ProgramSpec, int]],
        file: File,
        places: list[tuple[int, int]],
        pid: int,
    ) -> list[int]:
        assert self._attachment is not None and programs
        said = len(self._attachment.said)
        new = attach_user(self._attachment, programs, file, places, pid)
        for line in self._attachment.said[said:]:
            self._say(f"attached to {line}")
        return new

    def missed(self) -> int:
        """How often the kernel did not run a program that it should have run."""
        return sum(loader.missed(fd) for _, fd in self._loaded.programs)

    def missed_since_last(self) -> int:
        """The same since the last call of this."""
        before, self._missed_before = self._missed_before, self.missed()
        return self._missed_before - before

    def detach(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Detach; the maps stay readable, and don't change any more. ``progress`` is told
        how many of how many attachments are gone."""
        if self._attachment is not None:
            self._attachment.detach(progress)

    def close(self) -> None:
        """Detach, and give back the programs and the maps."""
        self.detach()
        for _, fd in self._loaded.programs:
            os.close(fd)
        self._loaded.programs.clear()
        for each in self.maps.values():
            each.close()


def prepare(
    source: Unrendered,
    sizes: Mapping[str, int],
    use_cache: bool,
    say: Callable[[str], None],
    pinned: Mapping[str, int] = {},
) -> Program:
    """Load a template's program into the running kernel. ``say`` is told what
    was done, a line at a time; ``sizes`` and ``pinned`` are those of ``loader.load``. Raises
    Failure."""
    running = kernel.running()
    image = _image(source, running, True, use_cache, say)
    try:
        loaded = loader.load(image, sizes, source.settings, pinned)
    except loader.TypesRefused as error:
        say(f"the kernel refuses {error}; trying without types")
        image = _image(source, running, False, use_cache, say)
        loaded = loader.load(image, sizes, source.settings, pinned)
    return Program(loaded, running, image, source, say)


def _image(
    source: Unrendered,
    running: kernel.Kernel,
    fentry: bool,
    use_cache: bool,
    say: Callable[[str], None],
) -> Image:
    if not use_cache:
        return _compile(source, running, fentry, say)
    name = cached_name(source, running, fentry)
    with cache.Cache(cache.folder()) as images:
        data = images.load(name)
        if data is not None:
            try:
                image = Image.parse(data)
                say(f"image {name[:12]} from {images.path}")
                return image
            except ValueError:
                pass
        running.cache = images
        image = _compile(source, running, fentry, say)
        running.cache = None
        images.store(name, image.dump())
        if images.why_not:
            say(f"not cached: {images.why_not}")
        else:
            say(f"image {name[:12]} kept in {images.path}")
        return image


def cached_name(source: Unrendered, running: kernel.Kernel, fentry: bool) -> str:
    """The name of a template's image in the cache."""
    # Everything that could change the image. What is rendered follows from the
    # template, the kernel and the options: it need not be rendered to be found.
    return cache.key(
        __version__, own_state(), bcc_state(), os.uname().machine, running.identity(),
        running.headers, source.template, repr(sorted(source.code.items())),
        repr(sorted(source.values.items())), repr(sorted(source.settings)), repr(fentry),
        repr(sorted((label, list(ways)) for label, ways in source.probes.items())),
    )  # fmt: skip


def _compile(
    source: Unrendered, running: kernel.Kernel, fentry: bool, say: Callable[[str], None]
) -> Image:
    # Imported here: a tool whose image is cached needs none of it.
    from pytools.compile.compiler import Compiler
    from pytools.compile.template import render

    loader.require_permission()
    with Compiler() as compiler:
        rendered = render(source, running, fentry, loader.takes_types)
        types = "installed headers" if rendered.headers else "BTF"
        lines = rendered.text.count("\n")
        say(f"rewritten for {running.release}: {lines} lines of C, types from {types}")
        image = compiler.compile(rendered, running.forget_types)
    instructions = sum(len(program.instructions) // 8 for program in image.programs)
    say(f"compiled: {len(image.programs)} programs, {instructions} instructions")
    return image


def own_state(rooms: Sequence[str] = ROOMS) -> str:
    """When the files that shape an image were last changed."""
    state = []
    folders = [os.path.join(LIBRARY, room) for room in rooms]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if not entry.is_dir():
                    status = entry.stat()
                    state.append(f"{entry.path} {status.st_size} {status.st_mtime_ns}")
                elif entry.name != "__pycache__":
                    folders.append(entry.path)
    return "\n".join(sorted(state))


def bcc_state() -> str:
    """Which bcc would compile: its Python package's place and time of installation."""
    for folder in sys.path:
        try:
            path = os.path.join(folder, "bcc", "libbcc.py")
            status = os.stat(path)
            version = os.stat(os.path.join(folder, "bcc", "version.py"))
        except OSError:
            continue
        return f"{path} {status.st_mtime_ns} {status.st_size} {version.st_mtime_ns}"
    return "no bcc"
