#ifndef MOUNT_NAMESPACE_H
#define MOUNT_NAMESPACE_H
#include <linux/nsproxy.h>
#include <linux/ns_common.h>

${STRUCT_MNT_NAMESPACE}/* The inode number of the mount namespace that a task is in. */
static inline u32 mount_namespace(struct task_struct *task)
{
	return task->nsproxy->mnt_ns->ns.inum;
}
#endif
