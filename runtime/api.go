// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime/process"
)

// The processes of containers are package process's.
type (
	Process = process.Process
	Stdio   = process.Stdio
	Exit    = process.Exit
)

// RootfsMount is one mount that the caller hands over with Create, as in
// containerd's api/types.Mount: it is mounted on the bundle's rootfs directory,
// or below it where Target is set.
type RootfsMount struct {
	Type    string
	Source  string
	Target  string
	Options []string
}

// CreateRequest is what Create needs besides the bundle's config.json.
type CreateRequest struct {
	ID     string
	Bundle string // absolute path of the directory with config.json
	Rootfs []RootfsMount
	// Terminal asks for a pseudo-terminal; the spec's process.terminal must
	// agree with it.
	Terminal bool
	Stdio    Stdio
	// SystemdCgroup forces the cgroup driver: nil follows the form of
	// linux.cgroupsPath (three fields with colons: systemd).
	SystemdCgroup *bool
}

// ExecRequest is one further process in a running container.
type ExecRequest struct {
	ID       string
	Process  *specs.Process
	Terminal bool
	Stdio    Stdio
}
