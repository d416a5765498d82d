/*
 * Counts by process, in a place for every pid, which is mapped by who reads them (MappedGrowth of
 * growth.py). The threads of a process share its number.
 */
#ifndef BPF_F_MMAPABLE
#define BPF_F_MMAPABLE (1 << 10)
#endif
BPF_F_TABLE("array", u32, u64, counts, 1, BPF_F_MMAPABLE);

static inline void count_process(void)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	u64 *count = counts.lookup(&pid);

	if (count)
		__sync_fetch_and_add(count, 1);
}
