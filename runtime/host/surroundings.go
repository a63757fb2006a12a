// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/uidmap"
)

// needed are the capabilities without which no container is made (of which each was left out
// and tried), or none is stopped (CAP_KILL), by the names of capabilities(7). What others are
// for, such as CAP_SYS_RESOURCE, fails only if it is asked for.
var needed = []struct {
	name string
	bit  uint
}{
	{"CAP_CHOWN", unix.CAP_CHOWN},
	{"CAP_DAC_OVERRIDE", unix.CAP_DAC_OVERRIDE},
	{"CAP_KILL", unix.CAP_KILL},
	{"CAP_MKNOD", unix.CAP_MKNOD},
	{"CAP_SETGID", unix.CAP_SETGID},
	{"CAP_SETPCAP", unix.CAP_SETPCAP},
	{"CAP_SETUID", unix.CAP_SETUID},
	{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN},
	{"CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE},
}

// MissingCapabilities are those that this process lacks of what no container is made or
// stopped without, by the names of capabilities(7).
func MissingCapabilities() []string {
	var missing []string
	caps, err := strconv.ParseUint(ownStatus("CapEff"), 16, 64)
	if err != nil {
		return nil
	}
	for _, c := range needed {
		if caps&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	return missing
}

// ownStatus is a field of /proc/self/status, "" if it cannot be read.
func ownStatus(name string) string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut("\n"+string(status), "\n"+name+":")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}

// Surroundings says what around this process may keep it from making containers, a clause for
// each: a user namespace, capabilities that are missing, a seccomp filter. A kernel answers
// EPERM for all of them, and does not say which it was.
func Surroundings() []string {
	var out []string
	if uid, _, err := uidmap.ReadMaps("/proc/self/ns/user"); err == nil && uid.Len() < 1<<32-1 {
		out = append(out, fmt.Sprintf("it runs in a user namespace, as in a container, with no more than %d ids", uid.Len()))
	}
	if missing := MissingCapabilities(); len(missing) > 0 {
		out = append(out, "it lacks "+strings.Join(missing, ", "))
	}
	if ownStatus("Seccomp") == "2" {
		out = append(out, "a seccomp filter is around it, as around a container")
	}
	return out
}
