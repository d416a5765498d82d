/*
 * Tells the reader of programs that are started, so that it looks at their libraries
 * (WatchedFiles in mapped_files.py): of each file that is run, at most once in a while. Before this
 * stands struct event with the members pid and what, which is STARTED then, and with text as the
 * last one. A tool that is not about all programs defines LOOK_AT(task).
 */
#include <linux/fs.h>
#include <linux/mm_types.h>
#include <linux/sched.h>

#ifndef LOOK_AT
#define LOOK_AT(task) true
#endif
#define STARTED 255
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
	struct event *event;

	if (!LOOK_AT(task) || (told && now - *told < TELL_AGAIN_NS))
		return 0;
	programs_started.update(&file, &now);
	event = reserve_part(offsetof(struct event, text));
	if (!event)
		return 0;
	__builtin_memset(event, 0, offsetof(struct event, text));
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->what = STARTED;
	events.ringbuf_submit(event, FORCE_WAKEUP);
	return 0;
}
