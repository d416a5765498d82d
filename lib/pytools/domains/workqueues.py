"""The names of the kernel's workqueues."""
from __future__ import annotations

import argparse
import os
import struct

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.text import c_text

if TYPE_CHECKING:
    from typing import Callable

    from pytools.load.program import Program


__all__ = ["NAMES", "NO_NAMES", "name_filter", "names"]

# With the NUL behind it: that of struct workqueue_struct in Linux v6.12. In v6.1 it was 24.
NAME_BYTES = 32
OTHERS = 1

# C of a template: ``number_of(pool)`` is a number for the name of the workqueue that a struct
# pool_workqueue belongs to, 0 where nobody asks for that.
NO_NAMES = """
#define number_of(pool) 1
"""
NAMES = """
#define OTHERS 1 /* for which there is no room */

struct workqueue_name {
	char text[32];
} __attribute__((aligned(8)));
BPF_HASH(workqueues, struct workqueue_name, u64, 4096);
BPF_PERCPU_ARRAY(numbers_given, u64, 1);

static inline u64 number_of(struct pool_workqueue *pool)
{
	struct workqueue_name name = {};
	u64 *words = (u64 *)&name, *known, *given, number;
	u32 only = 0;

	bpf_probe_read_kernel_str(name.text, sizeof(name.text), $WORKQUEUE_NAME);
	if ((words[0] & $MASK0) != $WORD0 || (words[1] & $MASK1) != $WORD1 ||
	    (words[2] & $MASK2) != $WORD2 || (words[3] & $MASK3) != $WORD3)
		return 0;
	known = workqueues.lookup(&name);
	if (known)
		return *known;
	given = numbers_given.lookup(&only);
	if (!given)
		return OTHERS;
	*given += 1;
	number = (*given + OTHERS) << 16 | bpf_get_smp_processor_id();
	workqueues.insert(&name, &number);
	/* Another CPU may have put it in meanwhile, or there is no room. */
	known = workqueues.lookup(&name);
	return known ? *known : OTHERS;
}
"""


def name_filter(text: str) -> dict[str, int]:
    """The settings of NAMES for a name, or for all with a beginning, which has a * behind it."""
    name = os.fsencode(text)
    data, mask = name, b"\xff" * NAME_BYTES
    if name.endswith(b"*"):
        data = name[:-1]
        mask = b"\xff" * len(data)
    if not name or len(data) >= NAME_BYTES:
        raise argparse.ArgumentTypeError(
            f"a workqueue's name has 1 to {NAME_BYTES - 1} bytes, not {len(data)}"
        )
    if any(sign in data for sign in b"*?["):
        raise argparse.ArgumentTypeError(f"{text!r}: only a * at the end of a name is understood")
    words, masks = (struct.unpack("=4q", each.ljust(NAME_BYTES, b"\0")) for each in (data, mask))
    return {
        f"{kind}{place}": number
        for kind, numbers in (("WORD", words), ("MASK", masks))
        for place, number in enumerate(numbers)
    }


def names(program: Program) -> Callable[[int], str]:
    """What gives the name for a number that ``number_of`` gave."""
    known: dict[int, str] = {OTHERS: "[others]"}

    def name(number: int) -> str:
        if number not in known:
            known.update(
                (number, c_text(text)) for text, number in program.maps["workqueues"].items()
            )
        return known.get(number, "[unknown]")

    return name
