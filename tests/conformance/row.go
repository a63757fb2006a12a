// SPDX-License-Identifier: Apache-2.0

// Package conformance is the table of what becomes of every field of the OCI
// runtime specification for Linux: for each, a change of a container's
// config.json, how its effect is looked at, and what must be seen there, or the
// whole sentence with which the container is refused. The tests make the
// containers; docs/compatibility.md is written from the same table.
//
// What does not belong here: how it is looked at from inside (package inside),
// and what is of containerd rather than of the specification (package e2e).
package conformance

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// Row is one use of one field.
type Row struct {
	// Field is its path in config.json, "process.rlimits[].type", or the name of
	// something that the specification's runtime.md and config-linux.md promise
	// beyond the fields, with a capital.
	Field string
	// Case says which of its values or uses, if there are several.
	Case string

	// Set changes the spec that the container would have without the row.
	Set func(*specs.Spec)
	// Exec makes the row one of a further process in the container, and changes it.
	Exec func(*specs.Process)
	// Box is the container: all rows of one box are tried in the same. Before a colon
	// stands what container it is to begin with, a key of [bases].
	Box string

	// Ask is a question for package inside; Look is one for those who look from outside,
	// a key of [outside] and arguments. Want is the answer.
	Ask, Look, Want string
	// Refused is the whole refusal, or one a line where several can be. With Want as well,
	// it depends on the kernel which it is, and either must be just so.
	Refused string
	// Fails is the error, by which the field is honoured: that of a hook that fails.
	Fails string

	// When is the condition for the row to be tried; nil: always.
	When *Condition
	// Note is for the document.
	Note string
}

// Condition is something that a host has or has not.
type Condition struct {
	Name string
	Met  func() bool
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// hasV1 tells whether a controller is mounted as version 1.
func hasV1(controller string) bool {
	for m, err := range sys.MountsOf("/proc/self/mountinfo") {
		if err == nil && m.Type == "cgroup" && slices.Contains(strings.Split(m.SuperOptions, ","), controller) {
			return true
		}
	}
	return false
}

// v2root is where version 2 is mounted, "" if nowhere.
func v2root() string {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if exists(dir + "/cgroup.controllers") {
			return dir
		}
	}
	return ""
}

func hasV2(controller string) bool {
	b, _ := os.ReadFile(v2root() + "/cgroup.controllers")
	return slices.Contains(strings.Fields(string(b)), controller)
}

// v1 and v2 are conditions by the version in which the host has a controller.
func v1(controller string) *Condition {
	return &Condition{"cgroup v1", func() bool { return hasV1(controller) }}
}

func v2(controller string) *Condition {
	return &Condition{"cgroup v2", func() bool { return !hasV1(controller) && hasV2(controller) }}
}

func without(controller string) *Condition {
	return &Condition{"without the controller " + controller, func() bool { return !hasV1(controller) && !hasV2(controller) }}
}

var (
	onlyV2     = &Condition{"cgroup v2 alone", func() bool { return v2root() == "/sys/fs/cgroup" }}
	notOnlyV2  = &Condition{"cgroup v1 or both", func() bool { return v2root() != "/sys/fs/cgroup" }}
	appArmor   = &Condition{"AppArmor", func() bool { return exists("/sys/kernel/security/apparmor/profiles") }}
	noAppArmor = &Condition{"no AppArmor", func() bool { return !appArmor.Met() }}
	seLinux    = &Condition{"SELinux", func() bool { return exists("/sys/fs/selinux/enforce") }}
	// powerful is a shim with CAP_SYS_RESOURCE, as containerd's have it unless they are
	// in a container themselves.
	powerful  = &Condition{"CAP_SYS_RESOURCE", hasSysResource}
	noSELinux = &Condition{"no SELinux", func() bool { return !seLinux.Met() }}
)

func hasSysResource() bool {
	b, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(b), "CapEff:\t")
	caps, _ := strconv.ParseUint(strings.Fields(rest + " 0")[0], 16, 64)
	return caps>>unix.CAP_SYS_RESOURCE&1 == 1
}

// Table is all rows, in the order of the specification.
func Table() []Row {
	return slices.Concat(rootRows(), mountRows(), mountOptionRows(), processRows(), schedulingRows(), hookRows(),
		linuxRows(), networkRows(), policyRows(), deviceRows(), namespaceRows(), resourceRows(), blockRows(), seccompRows(), otherSystems(), promises())
}

// bases are the containers that boxes begin with.
var bases = map[string]func(*specs.Spec){
	"system":   func(*specs.Spec) {},
	"ordinary": func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE") },
	"terminal": func(s *specs.Spec) { s.Process.Terminal = true },
	"agent":    func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE") },
	"hooks":    logHooks,
	// exec has no row of its own but further processes.
	"exec": func(s *specs.Spec) {
		s.Process.Env = append(s.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE")
		s.Linux.Seccomp = profile(specs.ActErrno, ptr(uint(39)), []string{"mlockall"})
	},
	// second comes into the pod of another container.
	"second": func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE") },
}

// ptr is a pointer to a value.
func ptr[T any](v T) *T { return &v }
