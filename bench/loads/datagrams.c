/*
 * Send UDP packets to itself over loopback, and receive each, pinned to a CPU:
 *
 *     datagrams COUNT CPU
 *
 * Prints the nanoseconds of all of them.
 */
#include "load.h"

#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[1]) : 0;
	struct sockaddr_in place = { .sin_family = AF_INET };
	socklen_t size = sizeof(place);
	int end = socket(AF_INET, SOCK_DGRAM, 0);
	char packet[100] = "";
	long long begin;

	if (!count)
		return 2;
	place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (pin(argv[2]) || bind(end, (struct sockaddr *)&place, size) ||
	    getsockname(end, (struct sockaddr *)&place, &size) ||
	    connect(end, (struct sockaddr *)&place, size))
		return 1;
	begin = now();
	for (long i = 0; i < count; i++)
		if (send(end, packet, sizeof(packet), 0) < 0 ||
		    recv(end, packet, sizeof(packet), 0) < 0)
			return 1;
	printf("%lld\n", now() - begin);
	return 0;
}
