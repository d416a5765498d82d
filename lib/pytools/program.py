"""A tool's BPF program: rendered, compiled or found in the cache, loaded, attached."""
from __future__ import annotations

import os
import sys
from typing import Callable, Mapping, Sequence

from pytools import __version__, cache, kernel, loader
from pytools.attach import Attachment, attach
from pytools.image import Image
from pytools.loader import Loaded
from pytools.maps import Map
from pytools.source import Source

__all__ = ["Program", "cached_name", "prepare"]

HERE = os.path.dirname(os.path.realpath(__file__))


class Program:
    """A program in the kernel: its maps, and what it is attached to."""

    def __init__(self, loaded: Loaded, running: kernel.Kernel, say: Callable[[str], None]) -> None:
        self.maps: Mapping[str, Map] = loaded.maps
        self._loaded = loaded
        self._running = running
        self._say = say
        self._attachment: Attachment | None = None
        self._missed_before = 0

    def attach(
        self, frequency: int = 0, period: int = 0, cpus: Sequence[int] | None = None
    ) -> None:
        """Attach every program; raises Failure, with nothing left attached. Those on
        perf events sample so many times a second, or every ``period`` nanoseconds,
        every online CPU or those given."""
        self._attachment = attach(self._loaded, self._running, frequency, period, cpus)
        for line in self._attachment.said:
            self._say(f"attached to {line}")

    def missed(self) -> int:
        """How often the kernel did not run a program that it should have run."""
        return sum(loader.missed(fd) for _, fd in self._loaded.programs)

    def missed_since_last(self) -> int:
        """The same since the last call of this."""
        before, self._missed_before = self._missed_before, self.missed()
        return self._missed_before - before

    def detach(self) -> None:
        """Detach; the maps stay readable, and don't change any more."""
        if self._attachment is not None:
            self._attachment.detach()


def prepare(
    source: Source, sizes: Mapping[str, int], use_cache: bool, say: Callable[[str], None]
) -> Program:
    """Load a template's program into the running kernel. ``say`` is told what
    was done, a line at a time. Raises Failure."""
    running = kernel.running()
    image = _image(source, running, True, use_cache, say)
    try:
        loaded = loader.load(image, sizes, source.settings)
    except loader.NoFunctionTracing as error:
        say(f"the kernel refuses {error}; trying kprobes")
        image = _image(source, running, False, use_cache, say)
        loaded = loader.load(image, sizes, source.settings)
    return Program(loaded, running, say)


def _image(
    source: Source,
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
        image = _compile(source, running, fentry, say)
        images.store(name, image.dump())
        if images.why_not:
            say(f"not cached: {images.why_not}")
        else:
            say(f"image {name[:12]} kept in {images.path}")
        return image


def cached_name(source: Source, running: kernel.Kernel, fentry: bool) -> str:
    """The name of a template's image in the cache."""
    # Everything that could change the image. What is rendered follows from the
    # template, the kernel and the options: it need not be rendered to be found.
    return cache.key(
        __version__, _own_state(), _bcc_state(), os.uname().machine, running.identity(),
        running.headers, source.template, repr(sorted(source.code.items())),
        repr(sorted(source.values.items())), repr(sorted(source.settings)), repr(fentry),
    )  # fmt: skip


def _compile(
    source: Source, running: kernel.Kernel, fentry: bool, say: Callable[[str], None]
) -> Image:
    # Imported here: a tool whose image is cached needs none of it.
    from pytools.compiler import Compiler
    from pytools.template import render

    loader.require_permission()
    with Compiler() as compiler:
        rendered = render(source, running, fentry)
        types = "installed headers" if rendered.headers else "BTF"
        lines = rendered.text.count("\n")
        say(f"rewritten for {running.release}: {lines} lines of C, types from {types}")
        image = compiler.compile(rendered)
    running.forget_types()
    instructions = sum(len(program.instructions) // 8 for program in image.programs)
    say(f"compiled: {len(image.programs)} programs, {instructions} instructions")
    return image


def _own_state() -> str:
    """When the files that shape an image were last changed."""
    state = []
    for folder, folders, files in os.walk(HERE):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            status = os.stat(os.path.join(folder, name))
            state.append(f"{name} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(state)


def _bcc_state() -> str:
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
