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
	return timed_on_path(argc, argv, open_and_close);
}
