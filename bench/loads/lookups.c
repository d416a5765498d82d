/*
 * Look an address up that needs no server, many times, pinned to a CPU:
 *
 *     lookups COUNT CPU
 *
 * Prints the nanoseconds of each of the PARTS parts of the loop.
 */
#include "load.h"

#include <netdb.h>

static int look_up(void *nothing)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *found;

	if (getaddrinfo("127.0.0.1", NULL, &hints, &found))
		return 1;
	freeaddrinfo(found);
	return 0;
}

int main(int argc, char **argv)
{
	return timed_alone(argc, argv, look_up, NULL);
}
