package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// applyDevices sets the rules of a new cgroup: by the v1 controller where it
// is mounted, else by a BPF program on the v2 directory (Linux 4.15).
func (c *Cgroup) applyDevices(rules []rule) error {
	if c.layout.v1("devices") == "" {
		return c.attachDevices(rules)
	}
	v, err := toV1(rules)
	if err != nil {
		return err
	}
	dir := c.dir("devices")
	fds := map[string]int{}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, w := range v.writes() {
		fd, ok := fds[w[0]]
		if !ok {
			if fd, err = openat(dir+"/"+w[0], unix.O_WRONLY); err != nil {
				return fmt.Errorf("device rules: %w", err)
			}
			fds[w[0]] = fd
		}
		if err := writeFd(fd, dir+"/"+w[0], w[1]); err != nil {
			if errors.Is(err, unix.EPERM) {
				return fmt.Errorf("device rules: the parent cgroup %s forbids what this container is to be allowed: %w", path.Dir(dir), err)
			}
			return fmt.Errorf("device rules: %w", err)
		}
	}
	return nil
}

// replaceDevices changes the rules of a running container. On v1 the list is
// rewritten entry by entry, so the container is frozen meanwhile and never
// meets one half written.
func (c *Cgroup) replaceDevices(rules []rule) (err error) {
	if c.layout.v1("devices") != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		frozen, err := c.Frozen()
		if err != nil {
			return err
		}
		if !frozen {
			if err := c.Freeze(ctx); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, c.Thaw(ctx)) }()
		}
		return c.applyDevices(rules)
	}
	// All programs of a directory must agree to an access: add the new one,
	// then take the old ones off, and there's no moment without rules.
	dir, err := openDir(c.layout.Unified + c.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	old, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: ebpf.AttachCGroupDevice})
	if err != nil {
		return fmt.Errorf("device rules: list BPF programs of %s: %w", dir.Name(), err)
	}
	if err := c.attachDevices(rules); err != nil {
		return err
	}
	for _, p := range old.Programs {
		prog, err := ebpf.NewProgramFromID(p.ID)
		if err != nil {
			return fmt.Errorf("device rules: old BPF program: %w", err)
		}
		// Others, systemd's for one, look after their own.
		if info, ierr := prog.Info(); ierr == nil && info.Name != programName {
			prog.Close()
			continue
		}
		err = link.RawDetachProgram(link.RawDetachProgramOptions{Target: int(dir.Fd()), Program: prog, Attach: ebpf.AttachCGroupDevice})
		prog.Close()
		if err != nil {
			return fmt.Errorf("device rules: detach old BPF program: %w", err)
		}
	}
	return nil
}

// programName tells our BPF programs from others; the kernel keeps 15 bytes.
const programName = "sysbox_devices"

func (c *Cgroup) attachDevices(rules []rule) error {
	if c.layout.Unified == "" {
		return errors.New("device rules: this host has neither the v1 devices controller nor cgroup2: mount one of them")
	}
	dir, err := openDir(c.layout.Unified + c.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: programName, Type: ebpf.CGroupDevice, Instructions: deviceProgram(rules), License: "Apache-2.0",
	})
	if err != nil {
		return fmt.Errorf("device rules: load BPF program (needs CONFIG_CGROUP_BPF and CAP_BPF): %w", err)
	}
	defer prog.Close() // the attachment holds it
	// ALLOW_MULTI: the container's systemd may add programs below ours, and all must agree.
	err = link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: int(dir.Fd()), Program: prog, Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI,
	})
	if err != nil {
		return fmt.Errorf("device rules: attach BPF program to %s: %w", dir.Name(), err)
	}
	return nil
}
