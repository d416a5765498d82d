/* The names of processes that have ended; /proc has those of the others (process_names.py). */
struct ended_name {
	char comm[16];
};

BPF_TABLE("lru_hash", u32, struct ended_name, ended_names, 16384);

$PROCESS_EXIT
{
	u64 thread = bpf_get_current_pid_tgid();
	u32 pid = thread >> 32;
	struct ended_name name = {};

	if (pid != (u32)thread)
		return 0;
	bpf_get_current_comm(name.comm, sizeof(name.comm));
	ended_names.update(&pid, &name);
	return 0;
}
