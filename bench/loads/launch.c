/*
 * Run a command and print what it took: "wall_ns user_us sys_us peak_kib status".
 *
 *   launch [-m] COMMAND ARGUMENT...
 *
 * A small process of its own, so that starting the command costs next to
 * nothing (a fork of Python copies Python's page tables), and the same for
 * every command. Its standard output is thrown away.
 *
 * The processor time includes the command's own children. Their memory must
 * not be included, so the peak is not wait4's ru_maxrss: that is the largest of
 * the process, of all children it waited for, and of whoever called exec. With
 * -m the command is stopped on its way out, and its VmHWM read; the times of
 * such a run are not to be used.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(125);
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long peak(pid_t pid)
{
	char path[64], line[256];
	long kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	if (!file)
		die(path);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "VmHWM: %ld", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

int main(int argc, char **argv)
{
	int memory = argc > 1 && !strcmp(argv[1], "-m");
	char **command = argv + 1 + memory;
	struct rusage used;
	int go[2], status;
	long long start;
	long kib = 0;
	pid_t pid;
	char c = 0;

	if (!*command || pipe2(go, O_CLOEXEC))
		die("launch");
	start = now();
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 1);
		/* Traced from before exec on; the other case waits for nothing. */
		if (memory && read(go[0], &c, 1) != 1)
			_exit(125);
		execv(command[0], command);
		die(command[0]);
	}
	if (memory) {
		if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXIT))
			die("ptrace");
		if (write(go[1], &c, 1) != 1)
			die("pipe");
	}
	for (;;) {
		if (wait4(pid, &status, 0, &used) < 0)
			die("wait4");
		if (!WIFSTOPPED(status))
			break;
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8))
			kib = peak(pid);
		ptrace(PTRACE_CONT, pid, 0, status >> 16 ? 0 : WSTOPSIG(status));
	}
	printf("%lld %lld %lld %ld %d\n", now() - start,
	       used.ru_utime.tv_sec * 1000000LL + used.ru_utime.tv_usec,
	       used.ru_stime.tv_sec * 1000000LL + used.ru_stime.tv_usec, kib,
	       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 0;
}
