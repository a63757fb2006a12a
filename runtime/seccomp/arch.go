// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/syscalls"
)

// arch is one calling convention of a kernel.
type arch struct {
	name  specs.Arch
	audit uint32 // AUDIT_ARCH_*, seccomp_data.arch
	calls syscalls.Arch
	// bit is set in every number: x32 shares its AUDIT_ARCH with x86_64.
	bit uint32
	// family is the GOARCH whose kernels can run it.
	family string
}

const x32Bit = syscalls.X32Bit

var arches = []arch{
	{specs.ArchX86_64, unix.AUDIT_ARCH_X86_64, syscalls.AMD64, 0, "amd64"},
	{specs.ArchX86, unix.AUDIT_ARCH_I386, syscalls.I386, 0, "amd64"},
	{specs.ArchX32, unix.AUDIT_ARCH_X86_64, syscalls.X32, x32Bit, "amd64"},
	{specs.ArchAARCH64, unix.AUDIT_ARCH_AARCH64, syscalls.ARM64, 0, "arm64"},
	{specs.ArchARM, unix.AUDIT_ARCH_ARM, syscalls.ARM, 0, "arm64"},
}

// foreign are the architectures of the runtime-spec that no supported kernel runs.
var foreign = []specs.Arch{
	specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
	specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64,
	specs.ArchRISCV64, specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB,
}

// selectArches picks the architectures of a profile that this kernel can run. The native one is
// always among them. The others are left out, because no call by them can arrive.
func selectArches(names []specs.Arch, goarch string) ([]arch, error) {
	var out []arch
	for _, a := range arches {
		native := a.family == goarch && a.bit == 0 && (a.name == specs.ArchX86_64 || a.name == specs.ArchAARCH64)
		if a.family == goarch && (native || slices.Contains(names, a.name)) {
			out = append(out, a)
		}
	}
	for _, n := range names {
		if !slices.ContainsFunc(arches, func(a arch) bool { return a.name == n }) && !slices.Contains(foreign, n) {
			return nil, fmt.Errorf("architectures: %q is unknown; use names of the runtime-spec, such as SCMP_ARCH_X86_64", n)
		}
	}
	return out, nil
}

// narrow reports whether arguments have 32 bits. Then the high words do not count, as with
// libseccomp.
func (a arch) narrow() bool { return a.name != specs.ArchX86_64 && a.name != specs.ArchAARCH64 }

func native() string { return runtime.GOARCH }

// numbers returns the architecture's system calls as a map. It builds the map on each call; only
// the compilation of a profile needs one.
func (a arch) numbers() map[string]uint32 { return maps.Collect(syscalls.All(a.calls)) }
