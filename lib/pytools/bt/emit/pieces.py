"""C that programs share: that of ``compile/bpf``, rendered for the kernel, and what only some
scripts need of it."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.compile.template import render
from pytools.compile.unrendered import Unrendered

if TYPE_CHECKING:
    from pytools.bt.options import Options
    from pytools.compile.unrendered import Value
    from pytools.facts.kernel import Kernel

__all__ = ["head", "piece_text", "settings_of"]

_HISTOGRAM = """\
#include "histogram.h"

/* 0 of a negative number, 1 of 0, then one for each of the 2^bits parts of a power of two. */
static inline u32 hist_bucket(s64 value, u32 bits)
{
	u32 power;

	if (value < 0)
		return 0;
	if (value < (1 << bits))
		return value + 1;
	power = log2_bucket(value);
	return ((power - bits + 1) << bits | (value >> (power - bits) & ((1 << bits) - 1))) + 1;
}
"""
_CALLS = """\
/* bcc puts a map's address into this call alone: it stands for all helpers that take a map. */
enum map_calls { FOR_EACH, OF_CPU };
struct map_call {
	u64 first, second, result;
};

static inline void map_call(void *map, void *given, int what)
{
	struct map_call *call = given;

	if (what == FOR_EACH)
		call->result = helper_for_each_element(map, call->first, call->second, 0);
	else
		call->result = helper_value_of_cpu(map, call->first, call->second);
}
#define bpf_tail_call_(map, given, what) map_call(map, given, what)
"""
_FIND_TEXT = """\
/* Where a string begins in another, or -1. The strings have zeros behind them. */
static inline s64 find_text(char *text, u32 size, char *wanted, u32 length)
{
	u32 i, j;
	s64 found = -1;

#pragma clang loop unroll(disable)
	for (i = 0; i < size && found < 0; i++) {
#pragma clang loop unroll(disable)
		for (j = 0; j < length; j++) {
			if (!wanted[j]) {
				found = i;
				break;
			}
			if (i + j >= size || text[i + j] != wanted[j])
				break;
		}
		if (j == length)
			found = i;
		if (!text[i])
			break;
	}
	return found;
}
"""
_OWN_PIDS = """\
/*
 * The process and the thread by their numbers in the tool's own pid namespace; 0 for those that it
 * has none of. "number" is 0 in the first one: the verifier then leaves the rest out.
 */
static inline u64 own_pids(u64 device, u64 number)
{
	struct {
		u32 tid, pid;
	} found = {};

	if (!number)
		return helper_pid_tgid();
	helper_namespace_pid_tgid(device, number, &found, sizeof(found));
	return (u64)found.pid << 32 | found.tid;
}
"""
_PROBE = """\
#include "probe.h"

static inline u32 current_probe(void *ctx)
{
	return probe_of(ctx, PROGRAM_INDEX);
}
"""
_STACKS = """\
BPF_STACK_TRACE(stacks_@, 16384);
BPF_STACK_TRACE(more_stacks_@, 8192);

/* A stack's place in the first map or, if another has it there, in the second. */
static inline s32 take_stack_@(void *ctx, u64 flags)
{
	s32 id = stacks_@.get_stackid(ctx, flags);

	if (id >= 0 || id == NO_STACK)
		return id;
	if (id == PLACE_TAKEN) {
		id = more_stacks_@.get_stackid(ctx, flags);
		if (id >= 0)
			return id | IN_SECOND_MAP;
	}
	count_loss(LOSS_@);
	return id;
}
"""
_TEXTS = {
    "histogram": _HISTOGRAM,
    "calls": _CALLS,
    "find_text": _FIND_TEXT,
    "generation": '#include "generation.h"\n',
    "bt": '#include "bt.h"\n',
    "own_pids": _OWN_PIDS,
    "probe": _PROBE,
}


def piece_text(name: str, kernel: Kernel, depth: int = 0, loss: int = 0, before: str = "") -> str:
    """A part of C: of "stacks" that of a depth, whose losses are counted as ``loss``; of others
    with what stands ``before`` it."""
    if name == "stacks":
        defines = (
            "#define IN_SECOND_MAP (1 << 30)\n#define NO_STACK (-14)\n#define PLACE_TAKEN (-17)\n"
            f"#define LOSS_{depth} {loss}\n"
        )
        return defines + _STACKS.replace("@", str(depth))
    if name not in _TEXTS:
        return ""
    return render(Unrendered(before + _TEXTS[name]), kernel).text


def settings_of(options: Options) -> list[str]:
    """The names of the settings that ``head`` has."""
    given = options.filter.settings if options.filter is not None else {}
    return sorted(["INDEX", *given])


def head(kernel: Kernel, options: Options) -> str:
    """What stands first: the macro of settings, and the filter with the kernel's types that it
    names."""
    template = "#define PROGRAM_INDEX $INDEX\n"
    code: dict[str, str] = {}
    values: dict[str, Value] = {}
    settings = {"INDEX": 0}
    if options.filter is not None and options.filter.code:
        template += "$FILTER\n"
        code["FILTER"] = options.filter.code
        settings.update(options.filter.settings)
        values.update(options.filter.values)
    return render(Unrendered(template, code, values, settings), kernel).text + "\n"
