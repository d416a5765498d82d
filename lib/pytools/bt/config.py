"""The config block, and the same by the environment: names, values, defaults."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import did_you_mean
from pytools.bt.tree import Wrong

if TYPE_CHECKING:
    from typing import Any, Mapping, Optional

    from pytools.bt.tree import Program, Span

__all__ = ["DEFAULTS", "config_of"]

DEFAULTS: dict[str, Any] = {
    "cache_user_symbols": "PER_PROGRAM", "cpp_demangle": True, "lazy_symbolication": False,
    "dummy_ts_map": "",  # a map whose value is the time for tseries(): for tests
    "license": "GPL", "log_size": 1000000, "max_bpf_progs": 1024, "max_cat_bytes": 10240,
    "max_map_keys": 4096, "max_probes": 1024, "max_strlen": 1024, "missing_probes": "error",
    "on_stack_limit": 32, "perf_rb_pages": 0, "show_debug_info": True, "stack_mode": "bpftrace",
    "str_trunc_trailer": "..", "print_maps_on_exit": True, "unstable_tseries": "warn",
    "unstable_dw_ustack": "warn", "unstable_import": "warn", "unstable_map_decl": "warn",
    "unstable_addr": "warn", "unstable_macro": "warn", "unstable_import_statement": "warn",
    "unstable_typeinfo": "warn", "use_blazesym": True, "max_type_res_iterations": 0,
}  # fmt: skip
_WORDS = {
    "stack_mode": ("bpftrace", "perf", "raw", "build_id"),
    "missing_probes": ("error", "warn", "ignore"),
    "cache_user_symbols": ("PER_PROGRAM", "PER_PID", "NONE", "0", "1"),
    "license": (
        "Dual MIT/GPL", "Dual BSD/GPL", "Dual MPL/GPL", "GPL and additional rights", "GPL v2",
        "GPL",
    ),
    **{name: ("error", "warn", "enable") for name in DEFAULTS if name.startswith("unstable_")},
}  # fmt: skip
# The most bytes of a string: a per-CPU map's value has room for two of them.
MOST_STRING = 12 * 1024


def config_of(program: Program, given: Mapping[str, Any], file: bool = False) -> dict[str, Any]:
    """All settings of a program; ``given`` are those of the environment. ``file``: whether it is a
    file's. Raises Wrong."""
    found = dict(DEFAULTS)
    if file:
        # Those for bpftrace before 0.24 name a function as each of several kernels calls it.
        found["missing_probes"] = "others"
    for at, name, value in program.config:
        label = name.lower()
        label = label[len("bpftrace_") :] if label.startswith("bpftrace_") else label
        if label not in DEFAULTS:
            hint = did_you_mean(label, DEFAULTS)
            raise Wrong(at, f"{name}: not a known configuration option", hint)
        found[label] = _checked(label, value, at)
    for name, value in given.items():
        if name in DEFAULTS:
            found[name] = _checked(name, value, None)
    if found["max_strlen"] > MOST_STRING:
        raise Wrong(None, f"max_strlen: {found['max_strlen']} is above {MOST_STRING}")
    return found


def _checked(name: str, value: Any, at: Optional[Span]) -> Any:
    default = DEFAULTS[name]
    if isinstance(default, bool):
        truth = {"0": False, "1": True, "false": False, "true": True}.get(str(value).lower())
        if truth is None:
            raise Wrong(at, f"Invalid value for {name}: it is true or false")
        return truth
    if isinstance(default, int):
        try:
            number = value if isinstance(value, int) else int(str(value), 0)
        except ValueError:
            raise Wrong(at, f"Invalid type for {name}. Type: string. Expected Type: int") from None
        if not 0 <= number < 1 << 32:
            raise Wrong(at, f"Invalid value for {name}: {number}")
        return number
    words = _WORDS.get(name)
    if words and str(value) not in words:
        raise Wrong(
            at, f"Invalid value for {name}. Found: {value}. Valid values: {', '.join(words)}."
        )
    return str(value)
