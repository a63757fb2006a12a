package seccomp

// Number is a system call as a filter and a notification see it (struct
// seccomp_data): AUDIT_ARCH_* and the number, which has bit 30 set for x32.
type Number struct{ Arch, Nr uint32 }

// Numbers finds system calls by name, on all architectures that kernels of this
// program's run. Names that one of them lacks are left out there.
func Numbers(names ...string) map[Number]string {
	out := map[Number]string{}
	for _, a := range arches {
		if a.family != native() {
			continue
		}
		table := a.numbers()
		for _, n := range names {
			if nr, ok := table[n]; ok {
				out[Number{a.audit, nr}] = n
			}
		}
	}
	return out
}
