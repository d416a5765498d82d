#ifndef ENDS_H
#define ENDS_H
#define IPV4 2 /* AF_INET */
#define IPV6 10 /* AF_INET6 */

/*
 * The two ends of a socket or of a packet. Addresses as they are in packets; that of
 * IPv4 has 4 bytes, with zeros behind. Ports are numbers of the machine's own byte order.
 */
struct ends {
	char laddr[16];
	char raddr[16];
	u32 netns;
	u16 lport;
	u16 rport;
	u16 family;
	u16 ip; /* the packets' version: an IPv6 socket may send those of IPv4 */
};
#endif
