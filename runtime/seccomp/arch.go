package seccomp

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// arch is one calling convention of a kernel.
type arch struct {
	name  specs.Arch
	audit uint32 // AUDIT_ARCH_*, seccomp_data.arch
	table string // "name number …"
	// bit is added to every number: x32 shares its AUDIT_ARCH with x86_64.
	bit uint32
	// family is the GOARCH whose kernels can run it.
	family string
}

const x32Bit = 0x40000000 // __X32_SYSCALL_BIT, asm/unistd.h

var arches = []arch{
	{specs.ArchX86_64, unix.AUDIT_ARCH_X86_64, tableamd64, 0, "amd64"},
	{specs.ArchX86, unix.AUDIT_ARCH_I386, table386, 0, "amd64"},
	{specs.ArchX32, unix.AUDIT_ARCH_X86_64, tableamd64, x32Bit, "amd64"},
	{specs.ArchAARCH64, unix.AUDIT_ARCH_AARCH64, tablearm64, 0, "arm64"},
	{specs.ArchARM, unix.AUDIT_ARCH_ARM, tablearm, 0, "arm64"},
}

// foreign are the architectures of the runtime-spec that no kernel of ours runs.
var foreign = []specs.Arch{
	specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
	specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64,
	specs.ArchRISCV64, specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB,
}

// selectArches picks the architectures of a profile that this kernel can run; the
// native one is always among them. Others can never come up and are left out.
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
			return nil, fmt.Errorf("architectures: %q is unknown; give names of the runtime-spec, such as SCMP_ARCH_X86_64", n)
		}
	}
	return out, nil
}

// narrow tells that arguments have 32 bits: what is in the high words does not count,
// as with libseccomp.
func (a arch) narrow() bool { return a.name != specs.ArchX86_64 && a.name != specs.ArchAARCH64 }

func native() string { return runtime.GOARCH }

// tableX32 has the calls whose x32 number is not x86_64's, as their arguments
// differ in size (arch/x86/entry/syscalls/syscall_64.tbl, abi x32).
const tableX32 = "rt_sigaction 512 rt_sigreturn 513 ioctl 514 readv 515 writev 516 recvfrom 517 sendmsg 518 recvmsg 519 execve 520 " +
	"ptrace 521 rt_sigpending 522 rt_sigtimedwait 523 rt_sigqueueinfo 524 sigaltstack 525 timer_create 526 mq_notify 527 kexec_load 528 " +
	"waitid 529 set_robust_list 530 get_robust_list 531 vmsplice 532 move_pages 533 preadv 534 pwritev 535 rt_tgsigqueueinfo 536 " +
	"recvmmsg 537 sendmmsg 538 process_vm_readv 539 process_vm_writev 540 setsockopt 541 getsockopt 542 io_setup 543 io_submit 544 " +
	"execveat 545 preadv2 546 pwritev2 547"

// numbers parses an architecture's table; done only when a profile is
// compiled.
func (a arch) numbers() map[string]uint32 {
	fields := strings.Fields(a.table)
	if a.bit == x32Bit {
		fields = append(fields, strings.Fields(tableX32)...)
	}
	m := make(map[string]uint32, len(fields)/2)
	for i := 0; i+1 < len(fields); i += 2 {
		n, err := strconv.ParseUint(fields[i+1], 10, 32)
		if err == nil {
			m[fields[i]] = uint32(n) | a.bit
		}
	}
	return m
}
