/*
 * Tells of programs that are started, for their libraries to be looked at
 * (mapped.py): of each file that is run, at most once in a while. Before this
 * stands the tool's report_start(), which tells the reader of the current task.
 */
#include <linux/fs.h>
#include <linux/mm_types.h>
#include <linux/sched.h>

#define TELL_AGAIN_NS 10000000000ULL

struct program_file {
	u64 number;
	u32 device;
	u32 generation;
};
BPF_TABLE("lru_hash", struct program_file, u64, programs_started, 16384);

TRACEPOINT(sched, sched_process_exec)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct inode *inode = task->mm->exe_file->f_inode;
	struct program_file file = {
		.number = inode->i_ino,
		.device = inode->i_sb->s_dev,
		.generation = inode->i_generation,
	};
	u64 now = bpf_ktime_get_ns(), *told = programs_started.lookup(&file);

	if (told && now - *told < TELL_AGAIN_NS)
		return 0;
	programs_started.update(&file, &now);
	report_start();
	return 0;
}
