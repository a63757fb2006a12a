package runtime

import (
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// RootfsMount is one mount that the caller hands over with Create, as in
// containerd's api/types.Mount: it is mounted on the bundle's rootfs folder,
// or below it where Target is set.
type RootfsMount struct {
	Type    string
	Source  string
	Target  string
	Options []string
}

// Stdio is the first three files of a process. A nil file is /dev/null. With
// a terminal they are not used. The runtime gives pipes to the process's user
// (fchown) so that /dev/stdout can be opened again in the container; it never
// closes the files it was given.
type Stdio struct {
	Stdin, Stdout, Stderr *os.File
}

// CreateRequest is what Create needs besides the bundle's config.json.
type CreateRequest struct {
	ID     string
	Bundle string // absolute path of the folder with config.json
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

// Exit is how a process ended.
type Exit struct {
	// Status is the exit code, or 128 + the signal's number.
	Status int
	// At is when the runtime learned of it.
	At time.Time
}
