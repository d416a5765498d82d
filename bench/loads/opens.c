/*
 * Open and close a file in a loop at full speed, and print how many nanoseconds
 * each of the PARTS parts of the loop took.
 *
 *   opens PATH COUNT CPU
 */
#include "load.h"

#include <fcntl.h>
#include <unistd.h>

static int open_and_close(void *path)
{
	int fd = open(path, O_RDONLY);

	return fd < 0 || close(fd);
}

int main(int argc, char **argv)
{
	long count = argc == 4 ? atol(argv[2]) : 0;

	if (!count)
		return 2;
	if (pin(argv[3]))
		return 1;
	return timed(count, open_and_close, argv[1]);
}
