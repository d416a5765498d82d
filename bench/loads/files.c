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
	long count = argc == 4 ? atol(argv[2]) : 0;

	if (!count)
		return 2;
	if (pin(argv[3]))
		return 1;
	return timed(count, live_and_die, argv[1]);
}
