/*
 * Calls of fsync(2) and the like. Each passes vfs_fsync_range(), or a copy of it in one of the
 * callers, which is where nothing has counted it by the time that the caller returns.
 * Who includes this says in fsync_passes() what is to be done for each.
 */
#define EBADF 9

BPF_HASH(syncing, u32, u8);

static inline int sync_begins(void)
{
	u32 tid = bpf_get_current_pid_tgid();
	u8 one = 1;

	syncing.update(&tid, &one);
	return 0;
}

static inline int sync_ends(int result)
{
	u32 tid = bpf_get_current_pid_tgid();

	if (!syncing.lookup(&tid))
		return 0;
	syncing.delete(&tid);
	return result == -EBADF ? 0 : fsync_passes();
}

FUNCTION(vfs_fsync_range)
{
	u32 tid = bpf_get_current_pid_tgid();

	syncing.delete(&tid);
	return fsync_passes();
}

$FSYNC_CALLERS
