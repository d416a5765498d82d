/*
 * Where a relative name starts from: the names of a directory and of all above
 * it, up to the task's root, by way of the mounts (as prepend_path() walks in
 * the kernel's fs/d_path.c).
 */
#include <linux/fdtable.h>
#include <linux/fs_struct.h>
#include <linux/mount.h>

#include "verifier.h"

#define MOST_PARENTS 128
#ifndef PARENTS_BYTES
#define PARENTS_BYTES 4096 /* a power of two */
#endif
#ifndef AT_FDCWD
#define AT_FDCWD (-100)
#endif

/* What is above the last name that append_parents() wrote. */
#define TASK_ROOT '/'
#define MORE_PARENTS '.'
#define OTHER_ROOT '?' /* outside the task's root, or mounted nowhere */

$STRUCT_MOUNT

/* bcc does not know pointers that come out of a struct or a loop as the kernel's. */
#define READ(variable, place) bpf_probe_read_kernel(&(variable), sizeof(variable), &(place))

/* What a system call's dirfd refers to; false where it is no open file. */
static inline bool directory(struct task_struct *task, int dirfd, struct path *at)
{
	struct fs_struct *fs = task->fs;
	struct fdtable *table = task->files->fdt;
	struct file **files, *file;

	if (dirfd == AT_FDCWD) {
		READ(*at, fs->pwd);
		return true;
	}
	if (dirfd < 0 || dirfd >= table->max_fds)
		return false;
	files = table->fd;
	READ(file, files[dirfd]);
	if (!file)
		return false;
	READ(*at, file->f_path);
	return true;
}

/*
 * Write the names of a directory and of those above it to text, from offset
 * "end" (at most PARENTS_BYTES) on, the innermost first, each with a NUL
 * behind it, and one of the characters above. Returns the offset behind them.
 * The text has 2 * PARENTS_BYTES + 511 + 2 bytes.
 */
static inline u64 append_parents(char *text, u64 end, struct task_struct *task, struct path *at)
{
	struct fs_struct *fs = task->fs;
	struct dentry *dentry = at->dentry, *other;
	struct vfsmount *mnt = at->mnt;
	const unsigned char *name;
	struct mount *mount, *above;
	struct path root = {};
	char top = MORE_PARENTS;
	int step, length;

	KEEP(end);
	if (end > PARENTS_BYTES)
		return end;
	READ(root, fs->root);
#pragma clang loop unroll(disable)
	for (step = 0; step < MOST_PARENTS; step++) {
		if (dentry == root.dentry && mnt == root.mnt) {
			top = TASK_ROOT;
			break;
		}
		READ(other, mnt->mnt_root);
		if (dentry == other) {
			mount = (void *)mnt - offsetof(struct mount, mnt);
			READ(above, mount->mnt_parent);
			if (above == mount) {
				top = OTHER_ROOT;
				break;
			}
			READ(dentry, mount->mnt_mountpoint);
			mnt = &above->mnt;
			continue;
		}
		READ(other, dentry->d_parent);
		if (dentry == other) {
			top = OTHER_ROOT;
			break;
		}
		FORGET(end, dentry);
		if (end >= 2 * PARENTS_BYTES)
			break;
		READ(name, dentry->d_name.name);
		length = bpf_probe_read_kernel_str(&text[end], 256, name);
		end += length & 511; /* at most 256, which the verifier cannot know */
		dentry = other;
	}
	KEEP(end);
	if (end > 2 * PARENTS_BYTES + 511) /* never; the verifier cannot know */
		return 0;
	text[end] = top;
	text[end + 1] = 0;
	return end + 2;
}
