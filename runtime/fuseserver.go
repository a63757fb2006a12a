package runtime

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
	"sysbox/runtime/trap"
)

// fuseServers are the configuration's servers of block file systems; nil for none. It is
// called before init executes the container's own.
func (c *Container) fuseServers(proc *os.File) (*trap.FUSE, error) {
	if len(c.cfg.FUSEMounts) == 0 {
		return nil, nil
	}
	f := &trap.FUSE{Servers: map[string][]string{}, Filters: 1, NoNewPrivs: c.plan.Process.NoNewPrivs, Run: c.runServer}
	if c.filter != nil {
		f.Filters++
	}
	for typ, command := range c.cfg.FUSEMounts {
		f.Servers[typ] = strings.Fields(command)
	}
	var err error
	f.Init, err = sys.Openat2(proc, strconv.Itoa(c.init.Pid()), unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY})
	return f, err
}

// serverDeadline bounds a server's set-up: it may have a journal to play back.
var serverDeadline = time.Minute

// serverOutput bounds what is kept of a server's words; the rest is read, or it would
// wait for ever.
const serverOutput = 400

// runServer runs a server of FUSE in the container as [Container.Exec] runs a process,
// until it has gone to the background. What it leaves there is the container's, as any
// daemon is. It has no traps: its own mount(2) would wait for those who wait for it.
func (c *Container) runServer(ctx context.Context, p plan.Process) (output string, status int, err error) {
	init := c.plan.Process
	p.AppArmorProfile, p.SELinuxLabel, p.OOMScoreAdj = init.AppArmorProfile, init.SELinuxLabel, init.OOMScoreAdj
	p.Personality, p.MemoryPolicy, p.CPUs = init.Personality, init.MemoryPolicy, c.plan.ExecCPUs
	r, w, err := os.Pipe()
	if err != nil {
		return "", 0, err
	}
	defer r.Close()
	proc, err := c.enter(p, Stdio{Stdout: w, Stderr: w}, c.namespaces, c.filter, nil)
	w.Close()
	if err != nil {
		return "", 0, err
	}
	defer proc.close()
	said := make(chan string, 1)
	go func() {
		var kept []byte
		for buf := make([]byte, serverOutput); ; {
			n, err := r.Read(buf)
			kept = append(kept, buf[:min(n, serverOutput-len(kept))]...)
			if err != nil {
				said <- string(kept)
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, serverDeadline)
	defer cancel()
	exit, late := proc.Wait(ctx)
	if late != nil {
		proc.Signal(int(unix.SIGKILL))
		<-proc.done
		late = os.ErrDeadlineExceeded
	}
	// What it has left in the background may hold the pipe.
	if err := r.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		return "", 0, err
	}
	return <-said, exit.Status, late
}
