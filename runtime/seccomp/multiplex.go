// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
)

// socketcalls and ipcs are the calls that i386 programs can also make through socketcall(2) and
// ipc(2), with the numbers that these use for them (linux/net.h, linux/ipc.h).
var (
	socketcalls = map[string]uint64{
		"socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5, "getsockname": 6, "getpeername": 7,
		"socketpair": 8, "send": 9, "recv": 10, "sendto": 11, "recvfrom": 12, "shutdown": 13, "setsockopt": 14,
		"getsockopt": 15, "sendmsg": 16, "recvmsg": 17, "accept4": 18, "recvmmsg": 19, "sendmmsg": 20,
	}
	ipcs = map[string]uint64{
		"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
		"shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
	}
)

// multiplex turns a rule into one for the other way to make the same call. There the arguments of
// the call are in memory, where no filter sees them. So a conditional rule that is stricter than
// the default applies to all calls, and a laxer one to none.
func multiplex(name string, r rule, def uint32) (string, rule, bool) {
	if len(r.when) > 0 && strictness(r.action) > strictness(def) {
		return "", r, false
	}
	if n, ok := socketcalls[name]; ok {
		r.when = []specs.LinuxSeccompArg{{Index: 0, Value: n, Op: specs.OpEqualTo}}
		return "socketcall", r, true
	}
	if n, ok := ipcs[name]; ok {
		// The upper half is a version, which the kernel masks out.
		r.when = []specs.LinuxSeccompArg{{Index: 0, Value: 0xffff, ValueTwo: n, Op: specs.OpMaskedEqual}}
		return "ipc", r, true
	}
	return "", r, false
}
