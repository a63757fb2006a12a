// SPDX-License-Identifier: Apache-2.0

// Package feature finds out what the running kernel supports by trying it: a version
// number says nothing about backports, configurations, sandboxes and sysctls.
//
// Probes are values with the version that should support the feature, so that one list
// serves the command check, the tests and the error of a container that does not start. A
// probe leaves nothing behind, and needs root.
//
// What does not belong here: deciding what to do about a missing feature. Package plan takes
// facts, and packages with a fallback use it when their call fails.
package feature

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Feature is a feature of the kernel that the runtime uses.
type Feature struct {
	// Name is for tables, in the terms of the manual pages.
	Name string
	// MinKernel is the first mainline release that has it.
	MinKernel Version
	// Needed: containers do not start without it.
	Needed bool
	// Hint says what happens without the feature and what the administrator can do.
	Hint string
	// Probe returns nil if the kernel has the feature, otherwise the error of the call that
	// failed, either because it was denied (EPERM) or because the kernel lacks it.
	Probe func() error
}

// Version is the release of a kernel, such as {6, 12}.
type Version struct{ Major, Minor int }

// AtLeast compares releases.
func (v Version) AtLeast(o Version) bool {
	return v.Major > o.Major || v.Major == o.Major && v.Minor >= o.Minor
}

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Kernel returns the version of the running kernel, uname(2).
func Kernel() (Version, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Version{}, fmt.Errorf("uname: %w", err)
	}
	return parseVersion(unix.ByteSliceToString(u.Release[:]))
}

func parseVersion(release string) (Version, error) {
	major, rest, _ := strings.Cut(release, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(rest[:end])
	if err1 != nil || err2 != nil {
		return Version{}, fmt.Errorf("the kernel release %q does not begin with two numbers", release)
	}
	return Version{a, b}, nil
}

// NoIDMappedOverlay is what happens without overlays over idmapped layers.
const NoIDMappedOverlay = "the files of each container are copied to its upper layer and change their owners, which takes time and disk space; use Linux 5.19 or newer"

// All lists the features that the runtime uses, oldest first.
var All = []Feature{
	{
		Name: "user namespaces", MinKernel: Version{4, 15}, Needed: true,
		Hint:  "raise the sysctl user.max_user_namespaces, use a kernel with CONFIG_USER_NS, or run containerd as root instead of rootless",
		Probe: userNamespace,
	},
	{
		Name: "fsopen, open_tree, move_mount", MinKernel: Version{5, 2}, Needed: true,
		Hint:  "use Linux 5.2 or newer, and a seccomp profile around the runtime that allows these calls",
		Probe: mountAPI,
	},
	{
		Name: "pidfd that can be polled", MinKernel: Version{5, 3}, Needed: true,
		Hint:  "use Linux 5.3 or newer",
		Probe: pidfdPoll,
	},
	{
		Name: "time namespaces", MinKernel: Version{5, 6},
		Hint:  "containers see the uptime of the host; use a kernel with CONFIG_TIME_NS",
		Probe: timeNamespace,
	},
	{
		Name: "openat2", MinKernel: Version{5, 6}, Needed: true,
		Hint:  "use Linux 5.6 or newer",
		Probe: openat2,
	},
	{
		Name: "clone3 into a cgroup", MinKernel: Version{5, 7}, Needed: true,
		Hint:  "use Linux 5.7 or newer, and a seccomp profile around the runtime that allows clone3",
		Probe: cloneIntoCgroup,
	},
	{
		Name: "close_range with close-on-exec", MinKernel: Version{5, 11}, Needed: true,
		Hint:  "use Linux 5.11 or newer",
		Probe: closeRange,
	},
	{
		Name: "mount_setattr", MinKernel: Version{5, 12}, Needed: true,
		Hint:  "use Linux 5.12 or newer",
		Probe: mountSetattr,
	},
	{
		Name: "recursive read-only mounts", MinKernel: Version{5, 12},
		Hint:  "the mount option rro is rejected; use Linux 5.12 or newer",
		Probe: recursiveReadOnly,
	},
	{
		Name: "idmapped mounts where containerd keeps images", MinKernel: Version{5, 12},
		Hint:  "the owners in each root file system are changed file by file, which takes time and disk space; put " + snapshots + " on ext4, xfs, btrfs or another file system that can be idmapped",
		Probe: func() error { return IDMappedMounts(snapshots) },
	},
	{
		Name: "seccomp notification with a file in the answer", MinKernel: Version{5, 14},
		Hint:  "system calls are not emulated; use Linux 5.14 or newer",
		Probe: seccompAddFD,
	},
	{
		Name: "overlay over idmapped layers", MinKernel: Version{5, 19},
		Hint:  NoIDMappedOverlay,
		Probe: func() error { return OverlayOfIDMapped(snapshots) },
	},
	{
		Name: "seccomp notification that only a kill interrupts", MinKernel: Version{5, 19},
		Hint:  "an emulated system call may be made twice when a signal comes; use Linux 5.19 or newer",
		Probe: SeccompWaitKillable,
	},
	{
		Name: "idmapped tmpfs", MinKernel: Version{6, 3},
		Hint:  "device nodes get their owners by chown, and binds of a tmpfs are not shifted; use Linux 6.3 or newer",
		Probe: idmappedTmpfs,
	},
	{
		Name: "memfd whose executability is sealed", MinKernel: Version{6, 3},
		Hint:  "the memfds of the runtime lack this one seal; if the kernel refuses them altogether, set the sysctl vm.memfd_noexec to 0 or 1",
		Probe: memfdExec,
	},
	{
		Name: "seccomp notification with a synchronous wake-up", MinKernel: Version{6, 6},
		Hint:  "emulated system calls take about five times as long; use Linux 6.6 or newer",
		Probe: seccompSyncWakeUp,
	},
	{
		Name: "binfmt_misc of each user namespace", MinKernel: Version{6, 7},
		Hint:  "programs for other processors only run inside if the host has registered them with the flag F; use Linux 6.7 or newer with CONFIG_BINFMT_MISC",
		Probe: OwnBinfmt,
	},
	{
		Name: "overlay layers as open files", MinKernel: Version{6, 13},
		Hint:  "each layer is attached to a path first, which takes about ten times as long; use Linux 6.13 or newer",
		Probe: func() error { return OverlayOfFiles(snapshots) },
	},
	{
		Name: "open_tree_attr", MinKernel: Version{6, 15},
		Hint:  "mounts that are idmapped already cannot get another mapping; use Linux 6.15 or newer",
		Probe: openTreeAttr,
	},
	{
		Name: "proc of another pid namespace (pidns)", MinKernel: Version{6, 17},
		Hint:  "a helper process mounts proc, which takes about half a millisecond more; use Linux 6.17 or newer",
		Probe: procPIDNamespace,
	},
}

// Startable returns nil if the kernel has every required feature. Otherwise the error names
// the missing one in the words of check. It probes only the newest required feature: a kernel
// with that one has the others.
func Startable() error {
	var last Feature
	for _, f := range All {
		if f.Needed {
			last = f
		}
	}
	if err := last.Probe(); err != nil {
		return fmt.Errorf("this kernel lacks %s (required; Linux %v or newer): %w; %s", last.Name, last.MinKernel, err, last.Hint)
	}
	return nil
}

// snapshots is where containerd's snapshotters keep layers by default.
const snapshots = "/var/lib/containerd"
