/*
 * Which of the watched directories a file is below, by the names on its file system, and then by
 * those of what it is mounted on (domains/directories.py). Who includes this has a per-CPU array
 * lost.
 */
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/mount.h>

#include "open_file.h"

#define MOST_ABOVE 256

$STRUCT_MOUNT

/* The number of each by its dentry, of which a directory has one. */
BPF_HASH(directories, u64, u32, 1);

/* The number of the innermost directory; NULL where the file is below none. */
static inline u32 *watched_directory(struct file *file)
{
	struct dentry *dentry, *above;
	struct mount *mount, *parent;
	struct vfsmount *mnt;
	struct path path;
	u32 *number;
	int step;
	u64 key;

	bpf_probe_read_kernel(&path, sizeof(path), &file->f_path);
	dentry = path.dentry;
	mnt = path.mnt;
#pragma clang loop unroll(disable)
	for (step = 0; step < MOST_ABOVE; step++) {
		READ(above, dentry->d_parent);
		if (above == dentry) {
			mount = (void *)mnt - offsetof(struct mount, mnt);
			READ(parent, mount->mnt_parent);
			if (parent == mount)
				return NULL;
			READ(above, mount->mnt_mountpoint);
			mnt = &parent->mnt;
		}
		dentry = above;
		key = (u64)dentry;
		number = directories.lookup(&key);
		if (number)
			return number;
	}
	lost.increment(0);
	return NULL;
}
