// SPDX-License-Identifier: Apache-2.0

// Package host is what the shim has to know of the host that it runs on: facts on which plans
// depend, labels of its policy, and what around the shim may keep it from making containers.
//
// What does not belong here: the kernel features that check tells (package feature).
package host

import (
	"os"
	"path"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/runtime/feature"
	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
)

// Facts are what plans may depend on, gathered once.
var Facts = sync.OnceValue(func() plan.Facts {
	f := plan.Facts{
		CapLast:    40,
		Arch:       goruntime.GOARCH,
		OnlineCPUs: goruntime.NumCPU(),
		AppArmor:   sys.Exists("/sys/kernel/security/apparmor"),
		SELinux:    sys.Exists("/sys/fs/selinux/enforce"),
		HostDirs:   map[string]bool{},
	}
	if b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			f.CapLast = n
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.KernelRelease = unix.ByteSliceToString(u.Release[:])
	}
	for _, dir := range []string{"/lib/modules/", "/usr/src/linux-headers-"} {
		if d := dir + path.Base(f.KernelRelease); sys.Exists(d) {
			f.HostDirs[d] = true
		}
	}
	if l, err := cgroup.Host(); err == nil { // Create says what is wrong
		f.Cgroup1, f.Cgroup2 = len(l.V1) > 0, l.Unified != ""
	}
	// From 6.7 on the mount itself is the probe: it may fail. Before, some distributor
	// may have brought it back.
	f.BinfmtMiscNS = sys.Exists(binfmtMisc) && (KernelAtLeast(f.KernelRelease, 6, 7) || feature.OwnBinfmt() == nil)
	return f
})

const binfmtMisc = "/proc/sys/fs/binfmt_misc"

// KernelAtLeast tells whether a release, as uname(2) has it, is of this version or a later one.
func KernelAtLeast(release string, major, minor int) bool {
	a, rest, _ := strings.Cut(release, ".")
	b, _, _ := strings.Cut(rest, ".")
	if i := strings.IndexFunc(b, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		b = b[:i]
	}
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return x > major || x == major && y >= minor
}
