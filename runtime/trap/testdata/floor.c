/* How long a trapped system call takes at least: a listener that answers at once, in C,
 * with the kernel's synchronous wake-up. Prints nanoseconds a call, the median. */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { rounds = 5000 };

static int by_size(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;
	return (x > y) - (x < y);
}

static void call(void)
{
	static long took[rounds];
	for (int i = 0; i < rounds; i++) {
		struct timespec a, b;
		clock_gettime(CLOCK_MONOTONIC, &a);
		syscall(SYS_getppid);
		clock_gettime(CLOCK_MONOTONIC, &b);
		took[i] = (b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec;
	}
	qsort(took, rounds, sizeof *took, by_size);
	printf("%ld\n", took[rounds / 2]);
}

int main(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, filter };
	/* The child inherits the listener's number through fork, the parent has no filter. */
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return 1;
	pid_t child = fork();
	if (child == 0) {
		char c = 0;
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		int l = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
		if (l < 0 || write(pair[1], &l, sizeof l) != sizeof l || read(pair[1], &c, 1) != 1)
			return 1;
		close(l);
		call();
		return 0;
	}
	int theirs;
	if (read(pair[0], &theirs, sizeof theirs) != sizeof theirs)
		return 1;
	int pidfd = syscall(SYS_pidfd_open, child, 0);
	int l = syscall(SYS_pidfd_getfd, pidfd, theirs, 0);
	ioctl(l, _IOW('!', 4, __u64), 1UL); /* SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP */
	if (l < 0 || write(pair[0], "x", 1) != 1)
		return 1;
	for (;;) {
		struct seccomp_notif n = { 0 };
		if (ioctl(l, SECCOMP_IOCTL_NOTIF_RECV, &n))
			break;
		struct seccomp_notif_resp r = { .id = n.id };
		ioctl(l, SECCOMP_IOCTL_NOTIF_SEND, &r);
	}
	waitpid(child, NULL, 0);
	return 0;
}
