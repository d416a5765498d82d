/*
 * Create a file, write and read a byte of it, and delete it, again and again, pinned
 * to a CPU:
 *
 *     files PATH COUNT CPU
 *
 * Prints the nanoseconds of each of the PARTS parts of the loop.
 */
#include "load.h"

#include <fcntl.h>
#include <unistd.h>

static int live_and_die(void *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	char byte = 0;

	return fd < 0 || pwrite(fd, &byte, 1, 0) != 1 || pread(fd, &byte, 1, 0) != 1 ||
	       close(fd) || unlink(path);
}

int main(int argc, char **argv)
{
	return timed_on_path(argc, argv, live_and_die);
}
