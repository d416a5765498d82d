/*
 * What the kernel itself opens by name, for opensnoop: what is run and its interpreters
 * (do_open_execat), swap files and accounting (file_open_name), core dumps (filp_open), firmware
 * (file_open_root). filp_open() calls file_open_name(), or has a copy of it if the compiler likes:
 * file_open_name() notes that it has told of an open, so that filp_open() doesn't do so again.
 */
#define NO_DIRECTORY (-1) /* no file has this descriptor */

BPF_HASH(told, u64, u64, 16384);

static inline int kernel_opened(void *ctx, u32 program, const struct file *file,
				struct open_request *asked)
{
	s64 error = (u64)file >= (u64)-4095 ? (s64)file : 0; /* as PTR_ERR_OR_ZERO() */

	asked->kernel_name = true;
	return opened(ctx, program, KERNEL, asked, error, true);
}

FUNCTION_RETURN(file_open_name, struct file *file, struct filename *name, int flags,
		short unsigned int mode)
{
	struct open_request asked = { .dirfd = AT_FDCWD, .flags = (u32)flags, .mode = mode };
	u64 thread = bpf_get_current_pid_tgid(), yes = 1;

	told.update(&thread, &yes);
	bpf_probe_read_kernel(&asked.name, sizeof(asked.name), &name->name);
	return kernel_opened(ctx, KERNEL_DRAFTS, file, &asked);
}

FUNCTION(filp_open)
{
	u64 thread = bpf_get_current_pid_tgid();

	told.delete(&thread);
	return 0;
}

FUNCTION_RETURN(filp_open, struct file *file, const char *filename, int flags,
		short unsigned int mode)
{
	struct open_request asked = { .dirfd = AT_FDCWD, .flags = (u32)flags, .mode = mode };
	u64 thread = bpf_get_current_pid_tgid();

	if (told.lookup(&thread)) {
		told.delete(&thread);
		return 0;
	}
	asked.name = filename;
	return kernel_opened(ctx, KERNEL_DRAFTS + 1, file, &asked);
}

/* A relative name is below a directory that the kernel chose. */
FUNCTION_RETURN(file_open_root, struct file *file, const char *filename, int flags,
		short unsigned int mode)
{
	struct open_request asked = { .dirfd = NO_DIRECTORY, .flags = (u32)flags, .mode = mode };

	asked.name = filename;
	return kernel_opened(ctx, KERNEL_DRAFTS + 2, file, &asked);
}

FUNCTION_RETURN(do_open_execat, struct file *file, int fd, struct filename *name)
{
	struct open_request asked = { .dirfd = fd };

	bpf_probe_read_kernel(&asked.name, sizeof(asked.name), &name->name);
	return kernel_opened(ctx, KERNEL_DRAFTS + 3, file, &asked);
}
