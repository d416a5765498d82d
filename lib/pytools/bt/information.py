"""What this kernel allows programs to do, as --info says it."""
from __future__ import annotations

import os

from pytools import __version__
from pytools.base.annotations import TYPE_CHECKING
from pytools.domains import probes
from pytools.facts import kernel

if TYPE_CHECKING:
    from typing import Iterator

__all__ = ["information"]

# Functions of the kernel (enum bpf_func_id) that programs may call, as bpftrace calls them.
HELPERS = (
    "probe_read", "probe_read_str", "probe_read_user", "probe_read_user_str",
    "probe_read_kernel", "probe_read_kernel_str", "get_current_cgroup_id", "send_signal",
    "override_return", "get_boot_ns", "d_path", "skboutput", "get_tai_ns", "get_func_ip",
    "jiffies64", "for_each_map_elem", "get_ns_pid_tgid", "map_lookup_percpu_elem", "loop",
)  # fmt: skip
NAMES = {
    "get_boot_ns": "ktime_get_boot_ns", "skboutput": "skb_output", "get_tai_ns": "ktime_get_tai_ns",
}  # fmt: skip


def information() -> Iterator[str]:
    """Lines, each of which says whether something is there."""
    running = kernel.running()
    uname = os.uname()
    yield "System"
    yield f"  OS: {uname.sysname} {uname.release} {uname.version}"
    yield f"  Arch: {uname.machine}"
    yield ""
    yield "Build"
    yield f"  version: pytools {__version__}"
    yield from _lines({"bcc library path resolution": True, "libdw (DWARF support)": False,
                       "blazesym (advanced symbolization)": False,
                       "dwunwind (DWARF stack unwinding)": False, "aot": False})  # fmt: skip
    functions, types = set(), set()
    if running.has_btf:
        functions = set(running.enumeration("bpf_func_id").values())
        types = set(running.enumeration("bpf_attach_type").values())
    found = {name: f"BPF_FUNC_{NAMES.get(name, name)}" in functions for name in HELPERS}
    found["dpath"] = found["d_path"]
    found["lookup_percpu_elem"] = found["map_lookup_percpu_elem"]
    yield ""
    yield "Kernel helpers"
    yield from _lines(found)
    yield ""
    yield "Kernel features"
    yield from _lines({
        "Instruction limit": True, "Loop support": True, "btf": running.has_btf,
        "module btf": os.path.isdir("/sys/kernel/btf"),
    })  # fmt: skip
    yield ""
    yield "Probe types"
    functions_too = bool(probes.fentries(running))
    devices = "/sys/bus/event_source/devices"
    yield from _lines({
        "kprobe": running.has_kprobes, "tracepoint": True, "perf_event": True,
        "uprobe": os.path.isdir(f"{devices}/uprobe"), "fentry": functions_too, "iter": False,
        "kprobe_multi": running.has_kprobes and "BPF_TRACE_KPROBE_MULTI" in types,
        "uprobe_multi": "BPF_TRACE_UPROBE_MULTI" in types,
        "kprobe_session": running.has_kprobes and "BPF_TRACE_KPROBE_SESSION" in types,
        "uprobe refcount (depends on Build:bcc bpf_attach_uprobe refcount)":
            os.path.exists(f"{devices}/uprobe/format/ref_ctr_offset"),
    })  # fmt: skip


def _lines(found: dict[str, bool]) -> Iterator[str]:
    return (f"  {name}: {'yes' if there else 'no'}" for name, there in found.items())
