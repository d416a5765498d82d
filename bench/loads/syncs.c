/*
 * Write a file that is in memory alone to disk many times, pinned to a CPU:
 *
 *     syncs COUNT CPU
 *
 * Prints the nanoseconds of each of the PARTS parts of the loop.
 */
#include "load.h"

#include <sys/mman.h>
#include <unistd.h>

static int sync_file(void *file)
{
	return fsync(*(int *)file);
}

int main(int argc, char **argv)
{
	int file = memfd_create("file", 0);

	return file < 0 || timed_alone(argc, argv, sync_file, &file);
}
