"""What tools of one kind know of their subject: block devices, sockets, containers, probes.

In: numbers that the kernel reports, names that a user types. Out: words, addresses, places."""
