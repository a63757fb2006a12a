// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// ScopePlaceholder is a process that systemd puts into a new scope, which cannot exist without
// a process, until init of the container has joined. It exits when this process exits.
type ScopePlaceholder struct {
	child *program.Child
	end   *os.File // closing it ends the process
}

// placeholderPipe is the fd of the read end.
const placeholderPipe = 4

// Pid is the pid of the process, for Config.PlaceholderPID.
func (h *ScopePlaceholder) Pid() int { return h.child.Pid }

// NewScopePlaceholder starts a ScopePlaceholder.
func NewScopePlaceholder() (*ScopePlaceholder, error) {
	r, w, err := program.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	child, err := program.Start(program.Program{
		{Name: "hold the scope", Nr: unix.SYS_READ, Args: []program.Arg{program.Int(placeholderPipe), &program.Buffer{Name: "buffer", N: 1}, program.Int(1)}},
		program.Exit(0),
	}, program.Options{Name: "sysbox-holder", Files: []program.File{{File: r, At: placeholderPipe}}})
	if err != nil {
		w.Close()
		return nil, err
	}
	return &ScopePlaceholder{child, w}, nil
}

// Close ends the process and waits for its exit.
func (h *ScopePlaceholder) Close() {
	h.end.Close()
	_, _ = h.child.Wait() // its exit status does not matter
	h.child.Close()
}
