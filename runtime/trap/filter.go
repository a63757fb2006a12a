// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/seccomp"
)

// Filter returns the filter that hands over the calls of [handlers]; its flags ask for a new
// listener. It allows all other calls. That includes calls whose arguments interest no handler,
// so that the kernel caches the answer by number and skips the filter (seccomp's action cache,
// Linux 5.11).
//
// The filter is installed beside that of the OCI profile. The kernel runs both, and an errno wins
// over a notification: what a profile denies stays denied. The filter itself answers the few
// calls of [floor], unless a profile does.
var Filter = sync.OnceValues(func() (*seccomp.Filter, error) {
	profile := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM},
	}
	for _, h := range handlers {
		for _, when := range h.when {
			profile.Syscalls = append(profile.Syscalls, specs.LinuxSyscall{
				Names: []string{h.name}, Action: specs.ActNotify, Args: when,
			})
		}
	}
	profile.Syscalls = append(profile.Syscalls, floor...)
	f, err := seccomp.Compile(profile)
	if err != nil {
		return nil, err
	}
	f.Flags |= uint32(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	if hasFlag(unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
		// Signals that do not kill wait for the answer. Otherwise SIGURG, which Go programs send
		// themselves, would restart a call again and again.
		f.Flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	}
	return f, nil
})

// floor lists calls that would reach the host from a container that has no profile, or whose
// profile allows them; see docs/system-calls.md, "Added to seccomp profiles".
var floor = []specs.LinuxSyscall{
	// For a key that it does not find, the kernel would start /sbin/request-key as the host's
	// root, with texts that the caller chose.
	errno("request_key", unix.ENOKEY, notZero(2)),
	// Where kernel.dmesg_restrict is 0, the kernel shows its whole log, and the log's size, to
	// everybody. The answer "no error" means 0 bytes here.
	errno("syslog", 0, isInt(0, unix.SYSLOG_ACTION_READ_ALL)),
	errno("syslog", 0, isInt(0, unix.SYSLOG_ACTION_SIZE_BUFFER)),
}

func errno(name string, e unix.Errno, when specs.LinuxSeccompArg) specs.LinuxSyscall {
	ret := uint(e)
	return specs.LinuxSyscall{Names: []string{name}, Action: specs.ActErrno, ErrnoRet: &ret, Args: []specs.LinuxSeccompArg{when}}
}

// hasFlag reports whether the kernel knows a flag of SECCOMP_SET_MODE_FILTER. The kernel checks
// the flags before it reads the program.
func hasFlag(flag uint64) bool {
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flag|unix.SECCOMP_FILTER_FLAG_NEW_LISTENER), 0)
	return e == unix.EFAULT
}

// always is the condition of a call that is handed over whatever its arguments are.
var always = [][]specs.LinuxSeccompArg{nil}

// bits is the condition that an argument, masked with mask, equals value.
func bits(index uint, mask, value uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: index, Op: specs.OpMaskedEqual, Value: mask, ValueTwo: value}
}

// isInt is the condition that an int argument has a value. The kernel ignores the upper half of
// the register, so a comparison of the whole register would let such a call through.
func isInt(index uint, value uint32) specs.LinuxSeccompArg {
	return bits(index, 1<<32-1, uint64(value))
}

// notZero is the condition that an argument is not 0.
func notZero(index uint) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: index, Op: specs.OpNotEqual}
}
