/* Reads rules on standard input and writes what libseccomp makes of them:
 *   default ACTION            first line, a number as the kernel's
 *   arch TOKEN                an AUDIT_ARCH token of libseccomp, besides the native
 *   rule ACTION NAME N (INDEX OP A B)*N
 * OP is libseccomp's enum scmp_compare. For tests only. */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what, int rc)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-rc));
	exit(1);
}

int main(void)
{
	char word[64], name[64];
	scmp_filter_ctx ctx = NULL;
	while (scanf("%63s", word) == 1) {
		uint32_t action, token;
		if (!strcmp(word, "default") && scanf("%" SCNu32, &action) == 1) {
			ctx = seccomp_init(action);
			if (!ctx)
				die("seccomp_init", -ENOMEM);
		} else if (!strcmp(word, "arch") && scanf("%63s", name) == 1) {
			token = seccomp_arch_resolve_name(name);
			int rc = seccomp_arch_add(ctx, token);
			if (rc && rc != -EEXIST)
				die(name, rc);
		} else if (!strcmp(word, "rule")) {
			unsigned n;
			struct scmp_arg_cmp args[6];
			if (scanf("%" SCNu32 " %63s %u", &action, name, &n) != 3 || n > 6)
				die("rule", -EINVAL);
			for (unsigned i = 0; i < n; i++) {
				unsigned index, op;
				if (scanf("%u %u %" SCNu64 " %" SCNu64, &index, &op, &args[i].datum_a, &args[i].datum_b) != 4)
					die("args", -EINVAL);
				args[i].arg = index;
				args[i].op = op;
			}
			int nr = seccomp_syscall_resolve_name(name);
			if (nr == __NR_SCMP_ERROR)
				continue;
			int rc = seccomp_rule_add_array(ctx, action, nr, n, args);
			if (rc && rc != -EACCES && rc != -EEXIST && rc != -EDOM)
				die(name, rc);
		} else {
			die(word, -EINVAL);
		}
	}
	int rc = seccomp_export_bpf(ctx, 1);
	if (rc)
		die("seccomp_export_bpf", rc);
	return 0;
}
