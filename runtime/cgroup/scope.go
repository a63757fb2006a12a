package cgroup

import (
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// ScopeHolder is a process that systemd puts in a new scope, which cannot exist without
// one, until the container's init has joined. It ends with this process as well.
type ScopeHolder struct {
	child *program.Child
	end   *os.File // closed, ends it
}

// holderPipe is the number of the read end.
const holderPipe = 4

// Pid is that of the process, for Config.HolderPID.
func (h *ScopeHolder) Pid() int { return h.child.Pid }

// HoldScope starts one.
func HoldScope() (*ScopeHolder, error) {
	r, w, err := program.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	child, err := program.Start(program.Program{
		{Name: "hold the scope", Nr: unix.SYS_READ, Args: []program.Arg{program.Int(holderPipe), &program.Buffer{Name: "buffer", N: 1}, program.Int(1)}},
		program.Exit(0),
	}, program.Options{Name: "sysbox-holder", Files: []program.File{{File: r, At: holderPipe}}})
	if err != nil {
		w.Close()
		return nil, err
	}
	return &ScopeHolder{child, w}, nil
}

// Close ends it and waits for its end.
func (h *ScopeHolder) Close() {
	h.end.Close()
	_, _ = h.child.Wait() // nothing depends on how it ended
	h.child.Close()
}
