/* Processes by their pidfd. */
#include <linux/fs.h>
#include "open_file.h"

#define UNKNOWN_PID (1LL << 32) /* more than any pid */
#define PID_FS_MAGIC 0x50494446
#define ANON_INODE_FS_MAGIC 0x09041934

/*
 * The process, as the first PID namespace numbers it. Since Linux commit cb12fd8e0dab (v6.9)
 * pidfds have a file system of their own.
 */
static inline s64 process_of_pidfd(int pidfd)
{
	struct file *file = open_file((struct task_struct *)bpf_get_current_task(), pidfd);
	struct super_block *super = NULL;
	struct inode *inode = NULL;
	struct pid *pid = NULL;
	unsigned long magic = 0;
	int number = 0;

	if (!file)
		return UNKNOWN_PID;
	READ(inode, file->f_inode);
	READ(super, inode->i_sb);
	READ(magic, super->s_magic);
	if (magic == PID_FS_MAGIC)
		READ(pid, inode->i_private);
	else if (magic == ANON_INODE_FS_MAGIC)
		READ(pid, file->private_data);
	READ(number, ((struct upid *)&pid->numbers)->nr);
	return pid && number > 0 ? number : UNKNOWN_PID;
}
