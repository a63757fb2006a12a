package seccomp

import (
	"encoding/json"
	"testing"

	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// FuzzCompile: a profile from anywhere never panics, and what compiles always
// ends in a verdict.
func FuzzCompile(f *testing.F) {
	base, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		f.Fatal(err)
	}
	b, err := json.Marshal(base)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X32"],"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_MASKED_EQ"}]}]}`))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"names":["read","nonesuch"],"action":"SCMP_ACT_NOTIFY"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p specs.LinuxSeccomp
		if json.Unmarshal(b, &p) != nil {
			return
		}
		for _, goarch := range []string{"amd64", "arm64"} {
			filter, err := compile(SystemProfile(&p), goarch)
			if err != nil {
				continue
			}
			for _, nr := range []uint32{0, 1, 56, 435, 1 << 20, x32Bit, x32Bit + 59, 1<<32 - 1} {
				for _, a := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64, 0} {
					if _, err := interpret(filter.Insns, data{nr: nr, arch: a}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}
