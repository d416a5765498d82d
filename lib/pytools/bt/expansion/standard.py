"""The standard library's macros that are made of the language: the rest are functions of bt."""
from __future__ import annotations

__all__ = ["FUNCTIONS", "STANDARD", "STANDARD_NAME", "STANDARD_NAMES"]

STANDARD_NAME = "stdlib/base.bt"
# The place of assert's message is a part of what bpftrace prints: line 6, column 5.
STANDARD = """\
// What is made of the language alone.

macro assert(condition, msg)
{
  if (!condition) {
    errorf("assert failed: %s", msg);
    exit(1);
  }
}

macro ppid() { curtask.real_parent.pid }
macro ppid(task) { task.real_parent.pid }
macro pcomm() { curtask.real_parent.comm }
macro pcomm(task) { task.real_parent.comm }
macro leader_tid() { curtask.group_leader.pid }
macro leader_tid(task) { task.group_leader.pid }
macro leader_comm() { curtask.group_leader.comm }
macro leader_comm(task) { task.group_leader.comm }

// Pointers that are an error number: the last 4095 addresses.
macro is_err(pointer) {
  ((int64)pointer) < 0 && ((int64)pointer) >= -4095
}

macro container_of(pointer, type, member) {
  (type*)((uint64)pointer - offsetof(type, member))
}

// What is known of an expression's type.
macro is_str(value) { typeinfo(value).base_type == "string" }
macro is_ptr(value) { typeinfo(value).base_type == "pointer" }
macro is_array(value) { typeinfo(value).base_type == "array" }
macro is_integer(value) { typeinfo(value).base_type == "int" }
macro static_assert(condition, message) { if comptime (!condition) { fail(message); } }

macro find(@map, key, $value) {
  let $key = key;
  if (has_key(@map, $key)) {
    $value = @map[$key];
    true
  } else {
    false
  }
}
"""
STANDARD_NAMES = frozenset(
    "assert ppid pcomm leader_tid leader_comm is_err container_of find "
    "is_str is_ptr is_array is_integer static_assert".split()
)

# Names that mean something without a macro: a macro of another number of arguments leaves them be.
FUNCTIONS = frozenset(
    """
    args avg bswap buf cat cgroup cgroup_path cgroupid clear comm count cpid cpu ctx curtask debugf
    delete elapsed errorf exit fail func getopt gid has_key hist jiffies join kaddr kptr kstack ksym
    kfunc_allowed kfunc_exist len lhist macaddr max memcmp min ncpus nsecs ntop numaid offsetof
    override path percpu_kaddr pid print printf probe probetype pton rand reg retval signal
    signal_name signal_thread sizeof skboutput socket_cookie stack_len stats str str_concat strcap
    strcontains strerror strftime strlen strncmp strstr sum syscall_name system tid time tseries
    typeinfo uaddr uid unwatch uptr usermode username ustack usym warnf write_user zero
    """.split()
)
