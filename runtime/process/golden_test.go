// SPDX-License-Identifier: Apache-2.0

package process

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
	"sysbox/runtime/seccomp"
	"sysbox/uidmap"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a program with its listing: every system call that a child
// makes is there to be read and reviewed.
func golden(t *testing.T, name string, p program.Program) {
	t.Helper()
	if _, err := p.Compile("amd64"); err != nil {
		t.Fatalf("compile: %v", err)
	}
	readable(t, p)
	file := filepath.Join("testdata", name+".txt")
	got := p.String()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the program is not that of %s; read the change and run the test with -update:\n%s", file, got)
	}
}

// readable fails for a call whose error shows another's result by its label.
func readable(t *testing.T, p program.Program) {
	t.Helper()
	for i := range p {
		text := p.Fail(i, -int64(unix.EPERM)).Error()
		for _, c := range p {
			if c.Label != "" && strings.Contains(text, "$"+c.Label) {
				t.Errorf("the error of call %d has the label %s: %s", i, c.Label, text)
			}
		}
	}
}

func newNamespaces() plan.Namespaces {
	n := plan.Namespace{Mode: plan.NamespaceNew}
	return plan.Namespaces{User: n, PID: n, Network: n, IPC: n, UTS: n, Cgroup: n, Time: plan.Namespace{Mode: plan.NamespaceHost}}
}

// trapFilter allows everything.
var trapFilter = &seccomp.Filter{Insns: []unix.SockFilter{{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}}, Flags: unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}

func rootProcess() plan.Process {
	all := uint64(1)<<41 - 1
	return plan.Process{
		Args: []string{"/sbin/init"}, Env: []string{"PATH=/bin", "container=oci"}, Cwd: "/",
		Caps: plan.Capabilities{Bounding: all, Effective: all, Permitted: all},
	}
}

func TestInitOfSystemContainer(t *testing.T) {
	p := &plan.Plan{
		Namespaces: newNamespaces(), Process: rootProcess(), Hostname: "box", MountLabel: "system_u:object_r:container_file_t:s0:c1,c2",
		Mounts: []plan.Mount{
			{Destination: "/proc", Type: "proc"},
			{Destination: "/data", Type: "bind", Source: "/srv", Propagation: unix.MS_UNBINDABLE | unix.MS_REC},
			{Destination: "/sys/fs/cgroup", Type: "cgroup2", Source: "cgroup", Set: unix.MOUNT_ATTR_NOSUID, Own: true},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Data: []string{"newinstance", "gid=5"}, Own: true},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Own: true},
			{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Own: true},
			{Destination: "/run/lock", Type: "tmpfs", Source: "tmpfs", Own: true},
			{Destination: "/proc/sys/fs/binfmt_misc", Type: "binfmt_misc", Own: true, Optional: true},
		},
	}
	p.IDs.GID = uidmap.Map{{ContainerID: 0, HostID: 200000, Size: 65536}}
	golden(t, "init-system", Init(Create{Plan: p, Shim: 42, Owner: 200000, CapLast: 40, Tasks: 2, Unified: true, HomeFromSync: true, Keyring: "_ses.c1", Trap: trapFilter}))
}

func TestInitOfUserWithTerminal(t *testing.T) {
	umask, adj := uint32(0o77), 100
	proc := plan.Process{
		Args: []string{"sh"}, Env: []string{"PATH=/bin:/usr/bin", "HOME=/"}, Cwd: "/srv", Terminal: true, Width: 80, Height: 25,
		UID: 1000, GID: 1000, AdditionalGIDs: []uint32{4, 24}, Umask: &umask, OOMScoreAdj: &adj, NoNewPrivs: true,
		Caps:            plan.Capabilities{Bounding: 1 << 10, Permitted: 1 << 10, Inheritable: 1 << 10, Ambient: 1 << 10},
		Rlimits:         []plan.Rlimit{{Type: unix.RLIMIT_NOFILE, Name: "RLIMIT_NOFILE", Soft: 1024, Hard: 4096}},
		AppArmorProfile: "sysbox-default", MemoryPolicy: &plan.MemoryPolicy{Mode: 2 | 1<<15, Nodes: []int{0, 65}}, CPUs: plan.ExecCPUs{Final: []int{0, 65}},
		Scheduler:  &plan.Scheduler{Policy: 3, Nice: 5},
		IOPriority: &plan.IOPriority{Value: 2<<13 | 4},
	}
	p := &plan.Plan{Namespaces: newNamespaces(), Process: proc}
	p.Namespaces.IPC = plan.Namespace{Mode: plan.NamespaceJoin, Path: "/proc/1/ns/ipc"}
	p.Namespaces.User = plan.Namespace{Mode: plan.NamespaceJoin}
	p.Namespaces.Network = plan.Namespace{Mode: plan.NamespaceJoin, Path: "/run/netns/n"}
	golden(t, "init-user", Init(Create{
		Plan: p, Shim: 42, CapLast: 40, Limits: map[int]unix.Rlimit{unix.RLIMIT_NOFILE: {Cur: 1024, Max: 2048}},
		Joins: []int{unix.CLONE_NEWNET, unix.CLONE_NEWIPC, unix.CLONE_NEWUSER}, Keyring: "_ses.c2", Filter: &seccomp.Filter{Insns: make([]unix.SockFilter, 1)},
	}))
}

func TestExecOfRoot(t *testing.T) {
	p := rootProcess()
	p.SELinuxLabel = "system_u:system_r:container_t:s0:c1,c2"
	p.CPUs.Initial = []int{1}
	p.Scheduler, p.IOPriority = &plan.Scheduler{Policy: 1, Priority: 5}, &plan.IOPriority{Value: 1<<13 | 3}
	golden(t, "exec-root", Exec(Join{
		Trap: trapFilter, Keyring: Keyring{Name: "_ses.c1", Serial: 77},
		Process: &p, Shim: 42, CapLast: 40, Tasks: 1, Unified: true,
		Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
	}))
}

func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		want string
	}{
		{"/bin/sh", nil, "/bin/sh"},
		{"./sh", []string{"PATH=/bin"}, "./sh"},
		{"sh", nil, "/bin/sh"},
		{"sh", []string{"PATH=/usr/local/bin/:/bin"}, "/usr/local/bin/sh"},
		{"sh", []string{"PATH=:/bin"}, "./sh"},
	} {
		if got := Candidates(c.name, c.env)[0]; got != c.want {
			t.Errorf("Candidates(%q, %q) begins with %q, want %q", c.name, c.env, got, c.want)
		}
	}
}

// The steps that can fail for what the caller asked say for which field.
func TestFieldsOfSteps(t *testing.T) {
	p := rootProcess()
	adj := -500
	p.OOMScoreAdj, p.Rlimits = &adj, []plan.Rlimit{{Type: unix.RLIMIT_NOFILE, Name: "RLIMIT_NOFILE", Hard: 4096}}
	p.Scheduler, p.IOPriority = &plan.Scheduler{Policy: 1}, &plan.IOPriority{}
	p.MemoryPolicy = &plan.MemoryPolicy{Mode: 2, Nodes: []int{0}}
	got := map[string]string{}
	for _, c := range Exec(Join{Process: &p, Limits: map[int]unix.Rlimit{unix.RLIMIT_NOFILE: {}}, Namespaces: unix.CLONE_NEWUSER}) {
		if c.Field != "" {
			got[c.Field] = c.Value
		}
	}
	want := map[string]string{
		FieldArgs: "/sbin/init", FieldCwd: "/", FieldRlimits: "RLIMIT_NOFILE", FieldOOMScoreAdj: "-500",
		FieldScheduler: "", FieldIOPriority: "", FieldMemoryPolicy: "",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
