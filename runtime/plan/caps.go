// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// capabilityNames are in the order of the kernel (include/uapi/linux/capability.h,
// Linux 5.9 … 6.18): the index is the number of the capability.
var capabilityNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
	"CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
	"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
	"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
}

// allCaps returns all capabilities of the kernel up to last. None is above 63: the
// kernel stores them in two 32-bit words.
func allCaps(last int) uint64 {
	if last >= 63 {
		return ^uint64(0)
	}
	return 1<<(last+1) - 1
}

// parseCaps reads a set. A capability that the kernel lacks gives a warning, not an
// error, as runtime-spec 1.3 (config.md, "capabilities") asks.
func parseCaps(field string, names []string, last int, warnings *[]string) uint64 {
	var set uint64
names:
	for _, n := range names {
		for i, known := range capabilityNames {
			if n == known && i <= last {
				set |= 1 << i
				continue names
			}
		}
		*warnings = append(*warnings, fmt.Sprintf("%s: %q left out: this kernel has no such capability", field, n))
	}
	return set
}

// capNames names the capabilities of a set, for warnings.
func capNames(set uint64) string {
	var names []string
	for i := range 64 {
		if set>>i&1 == 1 {
			if i < len(capabilityNames) {
				names = append(names, capabilityNames[i])
			} else {
				names = append(names, fmt.Sprintf("capability %d", i))
			}
		}
	}
	return strings.Join(names, " ")
}

// specCaps are the capabilities of the spec, made consistent: the kernel
// grants an effective one only if it is permitted, an ambient one only if it
// is both permitted and inheritable (capabilities(7)).
func specCaps(c *specs.LinuxCapabilities, last int, warnings *[]string) Capabilities {
	if c == nil {
		return Capabilities{}
	}
	const f = "process.capabilities."
	return Capabilities{
		Bounding:    parseCaps(f+"bounding", c.Bounding, last, warnings),
		Effective:   parseCaps(f+"effective", c.Effective, last, warnings),
		Inheritable: parseCaps(f+"inheritable", c.Inheritable, last, warnings),
		Permitted:   parseCaps(f+"permitted", c.Permitted, last, warnings),
		Ambient:     parseCaps(f+"ambient", c.Ambient, last, warnings),
	}
}

func (c *Capabilities) limit(warnings *[]string) {
	cut := func(name string, set *uint64, to uint64, reason string) {
		if extra := *set &^ to; extra != 0 {
			*warnings = append(*warnings, fmt.Sprintf("process.capabilities.%s: %s left out: not in %s", name, capNames(extra), reason))
			*set &= to
		}
	}
	cut("permitted", &c.Permitted, c.Bounding, "bounding")
	cut("inheritable", &c.Inheritable, c.Bounding, "bounding")
	cut("effective", &c.Effective, c.Permitted, "permitted")
	cut("ambient", &c.Ambient, c.Permitted&c.Inheritable, "permitted and inheritable")
}

// processCaps decides the capabilities of a process. Root of a system container
// has all of them, over its own user namespace. Inheritable and ambient stay as in
// the spec, since programs that root starts as other users would inherit a full set
// (CVE-2022-27650, CVE-2022-29162).
func processCaps(c *specs.LinuxCapabilities, uid uint32, p *Plan, f Facts, warnings *[]string) Capabilities {
	caps := specCaps(c, f.CapLast, warnings)
	if p.System && !p.HonorCaps {
		caps.Bounding = allCaps(f.CapLast)
		if uid == 0 {
			caps.Permitted, caps.Effective = caps.Bounding, caps.Bounding
		}
	}
	caps.limit(warnings)
	return caps
}
