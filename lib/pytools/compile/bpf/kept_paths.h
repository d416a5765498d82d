/*
 * The paths of files, kept from when each was seen first; those that were not asked for lately make
 * room (read/kept_paths.py). Who includes this says in PATH_PROGRAMS how many programs keep paths.
 */
#include "file_id.h"
#define PARENTS_BYTES 128 /* longer paths lack their beginning */
#include "path.h"

struct kept_path {
	u32 size;
	char names[2 * PARENTS_BYTES + 511 + 2]; /* as append_parents() writes them */
};

BPF_TABLE("lru_hash", struct file_id, struct kept_path, kept_paths, 16384);
/* Where a program makes one: it may be preempted by another, but not by itself. */
BPF_PERCPU_ARRAY(path_drafts, struct kept_path, PATH_PROGRAMS);

/* Keep the path of a file, if it is not known. */
static inline void keep_path(struct file_id *id, struct file *file, u32 program)
{
	struct kept_path *draft = path_drafts.lookup(&program);
	struct path path = {};

	if (!draft || kept_paths.lookup(id))
		return;
	bpf_probe_read_kernel(&path, sizeof(path), &file->f_path);
	draft->size = append_parents(draft->names, 0, (void *)bpf_get_current_task(), &path);
	kept_paths.update(id, draft);
}
