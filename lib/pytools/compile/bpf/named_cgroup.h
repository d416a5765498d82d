/*
 * A cgroup as the reader finds its path (Cgroups of containers.py): its id in the hierarchy of
 * version 2, 0 in one of version 1, where nobody finds a path by an id; and its own name.
 */
#include <linux/cgroup.h>

#define CGROUP_NAME_BYTES 64

static inline u64 name_cgroup(char *name, struct cgroup *cgroup)
{
	struct kernfs_node *node = cgroup->kn;

	bpf_probe_read_kernel_str(name, CGROUP_NAME_BYTES, node->name);
	return cgroup->root->hierarchy_id ? 0 : node->id;
}
