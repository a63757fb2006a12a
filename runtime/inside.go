// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/seccomp"
)

// drainTime is how long the words of a process that has ended are waited for: what it has
// left in the background may hold the pipe.
const drainTime = 50 * time.Millisecond

// helper is a process in the container that the runtime starts for itself, a hook or a FUSE
// server, and whose words it wants.
type helper struct {
	process    plan.Process
	namespaces uint64 // CLONE_NEW*
	filter     *seccomp.Filter
	input      []byte // for its stdin; nil: it has /dev/null
	stdout     bool   // what it writes there counts, besides stderr
	// keep reads its words and returns what is to be kept of them. It reads to the end, or
	// the process would wait.
	keep func(io.Reader) string
}

// run runs it until it ends. It is killed when ctx ends; the error is then ctx's cause. It has
// no traps: its own system calls would wait for those who wait for it.
func (h *helper) run(ctx context.Context, c *Container) (words string, exit Exit, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", Exit{}, err
	}
	defer r.Close()
	stdio := Stdio{Stderr: w}
	if h.stdout {
		stdio.Stdout = w
	}
	var feed *os.File
	if h.input != nil {
		if stdio.Stdin, feed, err = os.Pipe(); err != nil {
			w.Close()
			return "", Exit{}, err
		}
		defer feed.Close()
	}
	p, err := c.enter(h.process, stdio, h.namespaces, h.filter, nil)
	w.Close()
	if stdio.Stdin != nil {
		stdio.Stdin.Close()
	}
	if err != nil {
		return "", Exit{}, err
	}
	defer p.Close()
	if feed != nil {
		go func() {
			_, _ = feed.Write(h.input) // it need not be read
			feed.Close()
		}()
	}
	said := make(chan string, 1)
	go func() { said <- h.keep(r) }()
	exit, err = p.Wait(ctx)
	if err != nil {
		p.Signal(int(unix.SIGKILL))
		<-p.Done()
		err = context.Cause(ctx)
	}
	r.SetReadDeadline(time.Now().Add(drainTime))
	return <-said, exit, err
}
