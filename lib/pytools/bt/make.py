"""A program's text becomes an image and a plan: on a cold start only.

The compiler is started before the parser and what follows it are imported: both take as long.
"""
from __future__ import annotations

import os

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.bt.kept import Made, is_number
from pytools.bt.sessions import joined
from pytools.bt.wrong import Wrong
from pytools.compile.compiler import Compiler
from pytools.load import loader

if TYPE_CHECKING:
    import argparse
    from typing import Callable

    from pytools.bt.compiled import Compiled
    from pytools.facts.kernel import Kernel

__all__ = ["made", "print_program"]

OTHER_NUMBERS = ("1", "-9876543210")
VARIABLES = "BPFTRACE_"  # the config block's names, in the environment


def made(
    text: str,
    name: str,
    options: argparse.Namespace,
    running: Kernel,
    say: Callable[[str], None],
) -> Made:
    """The image and the plan of a program. ``say`` is told what was done. Raises Wrong for what is
    wrong with the program, Failure."""
    loader.require_permission()
    with Compiler() as compiler:  # which loads LLVM meanwhile
        compiled, numbers = _compiled(text, name, options, running)
        lines = compiled.rendered.text.count("\n")
        say(f"translated for {running.release}: {lines} lines of C")

        def meanwhile() -> None:
            running.forget_types()
            from pytools.bt import run  # noqa: F401  (what comes next)

        image = compiler.compile(compiled.rendered, meanwhile)
    plan = compiled.plan
    if options.probe_filter is None:  # which may want one of two
        image, plan = joined(image, plan, running)
        running.forget_types()
    instructions = sum(len(program.instructions) // 8 for program in image.programs)
    say(f"compiled: {len(image.programs)} programs, {instructions} instructions")
    return Made(image, plan, numbers)


def _compiled(
    text: str, name: str, options: argparse.Namespace, running: Kernel
) -> tuple[Compiled, list[int]]:
    """C and a plan; and the parameters that are numbers of the plan and nothing else."""
    from pytools.bt.compiled import Options, compile_program
    from pytools.bt.expand import expand
    from pytools.bt.parse import parse

    config = {
        variable[len(VARIABLES) :].lower(): value
        for variable, value in os.environ.items()
        if variable.startswith(VARIABLES)
    }
    given = Options(
        parameters=options.parameters,
        config=config,
        filter=options.filter,
        pid=options.pid or 0,
        unsafe=options.unsafe,
        file=options.program is None,
    )
    program = parse(text, name)

    def compiled_for(parameters: list[str]) -> Compiled:
        expanded = expand(program, parameters, options.named)
        return compile_program(expanded, running, given._replace(parameters=parameters))

    compiled = compiled_for(options.parameters)
    return compiled, _numbers(compiled, options.parameters, compiled_for)


def _numbers(
    compiled: Compiled, parameters: list[str], compiled_for: Callable[[list[str]], Compiled]
) -> list[int]:
    """The parameters with which the program becomes the same, whatever number they are."""
    found = []
    for place, text in enumerate(parameters):
        if ["parameter", place + 1] not in compiled.plan.settings.values() or not is_number(text):
            continue
        try:
            same = all(
                compiled_for([*parameters[:place], other, *parameters[place + 1 :]]) == compiled
                for other in OTHER_NUMBERS
            )
        except (Wrong, Failure):  # it is a size, or so
            continue
        if same:
            found.append(place + 1)
    return found


def print_program(text: str, name: str, options: argparse.Namespace, running: Kernel) -> None:
    """Print the C of a program."""
    from pytools.show.output import Output

    compiled, _ = _compiled(text, name, options, running)
    Output(options.tool).write(compiled.rendered.text)
    raise SystemExit(0)
