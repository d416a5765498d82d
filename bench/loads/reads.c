/*
 * Read a disk past the page cache, a block at a time, one after the other.
 *
 *   reads DISK COUNT CPU
 */
#include "load.h"

#include <fcntl.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 4096 };

int main(int argc, char **argv)
{
	long count = argc == 4 ? atol(argv[2]) : 0;
	void *memory;
	int fd;

	if (!count)
		return 2;
	if (pin(argv[3]))
		return 1;
	fd = open(argv[1], O_RDONLY | O_DIRECT);
	if (fd < 0 || posix_memalign(&memory, BLOCK, BLOCK))
		return 1;
	for (long i = 0; i < count; i++)
		if (pread(fd, memory, BLOCK, i % BLOCKS * BLOCK) != BLOCK)
			return 1;
	return 0;
}
