/*
 * The file of a socket, by which the processes are found that have it open (socket_holders.py).
 */
#ifndef SOCKET_FILE_H
#define SOCKET_FILE_H
#include <linux/fs.h>
#include <linux/net.h>
#include <net/sock.h>

/* The number of its inode; 0 where no process has it open. */
static inline u64 inode_of(struct sock *sk)
{
	struct socket *socket = NULL;
	struct inode *inode = NULL;
	struct file *file = NULL;
	u64 number = 0;

	bpf_probe_read_kernel(&socket, sizeof(socket), &sk->sk_socket);
	if (!socket)
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), &socket->file);
	if (!file)
		return 0;
	bpf_probe_read_kernel(&inode, sizeof(inode), &file->f_inode);
	bpf_probe_read_kernel(&number, sizeof(number), &inode->i_ino);
	return number;
}
#endif
