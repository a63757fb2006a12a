// SPDX-License-Identifier: Apache-2.0

package seccomp

import "sysbox/runtime/syscalls"

// Number is a system call as a filter and a notification see it (struct
// seccomp_data): AUDIT_ARCH_* and the number, which has bit 30 set for x32.
type Number struct{ Arch, Nr uint32 }

// Numbers finds system calls by name, on all architectures that this machine's kernel can
// run. A name that an architecture lacks is left out there.
func Numbers(names ...string) map[Number]string {
	out := map[Number]string{}
	for _, a := range arches {
		if a.family != native() {
			continue
		}
		for _, n := range names {
			if nr, ok := syscalls.Number(a.calls, n); ok {
				out[Number{a.audit, nr}] = n
			}
		}
	}
	return out
}
