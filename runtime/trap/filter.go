package trap

import (
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/seccomp"
)

// Filter returns the filter that hands over the calls of [handlers], with the flag
// for a new listener. It allows everything else, also where arguments show that no handler is interested, so
// that the kernel remembers the answer by the call's number and asks no filter
// (seccomp's action cache, Linux 5.11).
//
// It is a filter beside that of the OCI profile: the kernel runs both, and of two
// answers an errno wins over a notification. What a profile denies stays denied. The few
// calls of [floor] it answers itself, where no profile has.
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
		// Signals that do not kill wait until the answer is there: a Go program's
		// SIGURG would otherwise make a call begin again and again.
		f.Flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	}
	return f, nil
})

// floor are calls that would reach the host from a container without a profile, or below
// one that allows them; docs/system-calls.md, "Added to seccomp profiles".
var floor = []specs.LinuxSyscall{
	// The kernel would start /sbin/request-key as the host's root for a key that it does
	// not find, and that with the caller's texts.
	errno("request_key", unix.ENOKEY, notZero(2)),
	// What the kernel shows of its log to everybody where kernel.dmesg_restrict is 0: all of
	// it, and its size. "No error" is 0 bytes here.
	errno("syslog", 0, isInt(0, unix.SYSLOG_ACTION_READ_ALL)),
	errno("syslog", 0, isInt(0, unix.SYSLOG_ACTION_SIZE_BUFFER)),
}

func errno(name string, e unix.Errno, when specs.LinuxSeccompArg) specs.LinuxSyscall {
	ret := uint(e)
	return specs.LinuxSyscall{Names: []string{name}, Action: specs.ActErrno, ErrnoRet: &ret, Args: []specs.LinuxSeccompArg{when}}
}

// hasFlag tells whether the kernel knows a flag of SECCOMP_SET_MODE_FILTER: it
// looks at the flags before it reads the program.
func hasFlag(flag uint64) bool {
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flag|unix.SECCOMP_FILTER_FLAG_NEW_LISTENER), 0)
	return e == unix.EFAULT
}

// always is the condition of a call that is handed over in any case.
var always = [][]specs.LinuxSeccompArg{nil}

// bits is the condition that of the bits mask of an argument those of value
// are set.
func bits(index uint, mask, value uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: index, Op: specs.OpMaskedEqual, Value: mask, ValueTwo: value}
}

// isInt is the condition that an argument has a value where the kernel takes an int: it drops
// what a caller has put into the upper half of the register, and a comparison of all of it
// would let such a call through.
func isInt(index uint, value uint32) specs.LinuxSeccompArg {
	return bits(index, 1<<32-1, uint64(value))
}

// some is the condition that an argument is not 0.
func notZero(index uint) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: index, Op: specs.OpNotEqual}
}
