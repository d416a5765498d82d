/*
 * Call listen(2) for the same TCP socket, many times, pinned to a CPU:
 *
 *     listens COUNT CPU
 *
 * Prints the nanoseconds of each of the PARTS parts of the loop.
 */
#include "load.h"

#include <sys/socket.h>

static int listen_again(void *made)
{
	return listen(*(int *)made, 100);
}

int main(int argc, char **argv)
{
	int made = socket(AF_INET, SOCK_STREAM, 0);

	if (made < 0)
		return 1;
	return timed_alone(argc, argv, listen_again, &made);
}
