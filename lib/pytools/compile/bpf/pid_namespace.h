#ifndef PID_NAMESPACE_H
#define PID_NAMESPACE_H
#include <linux/nsproxy.h>
#include <linux/pid_namespace.h>

/* The namespace that gave a task its innermost pid. */
static inline struct pid_namespace *pid_namespace(struct task_struct *task)
{
	struct pid *pid = task->thread_pid;
	struct upid *innermost = (struct upid *)&pid->numbers + pid->level;

	return innermost->ns;
}
#endif
