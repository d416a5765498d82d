/*
 * Open and close a file in a loop at full speed, and print how many nanoseconds
 * each of the PARTS parts of the loop took.
 *
 *   opens PATH COUNT CPU
 */
#include "load.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { PARTS = 20 };

int main(int argc, char **argv)
{
	long count = argc == 4 ? atol(argv[2]) : 0;
	long long start;

	if (!count)
		return 2;
	if (pin(argv[3]))
		return 1;
	for (int part = 0; part < PARTS; part++) {
		start = now();
		for (long i = 0; i < count / PARTS; i++) {
			int fd = open(argv[1], O_RDONLY);

			if (fd < 0)
				return 1;
			close(fd);
		}
		printf("%lld\n", now() - start);
	}
	return 0;
}
