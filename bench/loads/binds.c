/*
 * Bind a new UDP socket to a port of loopback that the kernel chooses, many times, pinned to a CPU:
 *
 *     binds COUNT CPU
 *
 * Prints the nanoseconds of each of the PARTS parts of the loop.
 */
#include "load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static int bind_one(void *nothing)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int made = socket(AF_INET, SOCK_DGRAM, 0);

	if (made < 0 || bind(made, (struct sockaddr *)&address, sizeof(address)))
		return 1;
	return close(made);
}

int main(int argc, char **argv)
{
	return timed_alone(argc, argv, bind_one, NULL);
}
