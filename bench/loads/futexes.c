/*
 * Two processes on one CPU take turns, and wait for theirs at a futex.
 *
 *   futexes COUNT CPU
 *
 * COUNT is how many waits there are.
 */
#include "load.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int take_turns(unsigned int *turn, unsigned int own, long count)
{
	for (long i = 0; i < count; i++) {
		while (__atomic_load_n(turn, __ATOMIC_SEQ_CST) != own)
			syscall(SYS_futex, turn, FUTEX_WAIT, !own, NULL);
		__atomic_store_n(turn, !own, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, turn, FUTEX_WAKE, 1);
	}
	return 0;
}

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[1]) / 2 : 0;
	unsigned int *turn;
	int status;
	pid_t pid;

	if (!count)
		return 2;
	turn = mmap(NULL, sizeof(*turn), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (pin(argv[2]) || turn == MAP_FAILED)
		return 1;
	pid = fork();
	if (pid < 0)
		return 1;
	if (!pid)
		_exit(take_turns(turn, 1, count));
	take_turns(turn, 0, count);
	return waitpid(pid, &status, 0) != pid || status;
}
