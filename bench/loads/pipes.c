/*
 * Write a byte to a named pipe and read one from it, many times. Processes that do this on other
 * CPUs at once wait for the mutex of the pipe.
 *
 *   pipes PATH COUNT CPU
 *
 * Prints the nanoseconds of each of the PARTS parts of the loop.
 */
#include "load.h"

#include <fcntl.h>
#include <unistd.h>

static int fd = -1;

static int pass(void *path)
{
	char c = 0;

	if (fd < 0)
		fd = open(path, O_RDWR);
	return write(fd, &c, 1) != 1 || read(fd, &c, 1) != 1;
}

int main(int argc, char **argv)
{
	return timed_on_path(argc, argv, pass);
}
