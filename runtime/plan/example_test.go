// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime/plan"
)

// The smallest specification that a caller may send. What it leaves out has a default.
func smallest() *specs.Spec {
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Cwd: "/", Args: []string{"/sbin/init"}, Env: []string{"PATH=/usr/bin:/bin"}},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace},
			{Type: specs.MountNamespace},
			{Type: specs.NetworkNamespace},
			{Type: specs.IPCNamespace},
			{Type: specs.UTSNamespace},
		}},
	}
}

// facts are what the plan is told of the host; nothing in this package asks for them.
var facts = plan.Facts{KernelRelease: "6.18.0", CapLast: 40, Cgroup2: true, Arch: "amd64", OnlineCPUs: 2}

func ExampleMake() {
	p, err := plan.Make(plan.Input{Namespace: "default", ID: "demo", Bundle: "/run/bundle", Spec: smallest(), Facts: facts})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("system container:", p.System)
	fmt.Println("ids:", p.IDs.Source)
	for _, m := range p.Mounts {
		if m.Own {
			fmt.Printf("init mounts %s on %s\n", m.Type, m.Destination)
		}
	}
	// Output:
	// system container: true
	// ids: allocate
	// init mounts cgroup2 on /sys/fs/cgroup
	// init mounts devpts on /dev/pts
	// init mounts tmpfs on /dev/shm
	// init mounts mqueue on /dev/mqueue
	// init mounts tmpfs on /run
	// init mounts tmpfs on /run/lock
}

// A specification that cannot be honoured is refused before anything is made.
func ExampleMake_refusal() {
	spec := smallest()
	spec.Linux.Namespaces = spec.Linux.Namespaces[1:] // no PID namespace: the host's
	_, err := plan.Make(plan.Input{Namespace: "default", ID: "demo", Bundle: "/run/bundle", Spec: spec, Facts: facts})
	var refusal *plan.ValidationError
	if errors.As(err, &refusal) {
		fmt.Println("field:", refusal.Field)
	}
	fmt.Println(err)
	// Output:
	// field: linux.namespaces
	// linux.namespaces: it has no "pid", so the container would see and signal the processes of the host; remove --pid=host (Kubernetes: hostPID)
}
