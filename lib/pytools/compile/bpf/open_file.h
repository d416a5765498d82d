#ifndef OPEN_FILE_H
#define OPEN_FILE_H
#include <linux/fdtable.h>

/* bcc does not know pointers that come out of a struct or a loop as the kernel's. */
#define READ(variable, place) bpf_probe_read_kernel(&(variable), sizeof(variable), &(place))

/* What a task has open under a number, NULL if it has nothing. */
static inline struct file *open_file(struct task_struct *task, int fd)
{
	struct fdtable *table = task->files->fdt;
	struct file **files, *file = NULL;

	if (fd < 0 || fd >= table->max_fds)
		return NULL;
	files = table->fd;
	READ(file, files[fd]);
	return file;
}
#endif
