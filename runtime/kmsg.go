package runtime

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// kmsg stands for the kernel's log in a system container: a terminal at /dev/kmsg from
// which nothing ever comes and whose input is thrown away. Unlike a null device it can be
// waited for, without which the journal of systemd 262 does not start; unlike none at
// all it can be opened, without which kubelets do not.
type kmsg struct{ master, slave *os.File }

func (k *kmsg) close() {
	if k != nil {
		k.master.Close()
		k.slave.Close()
	}
}

// makeKmsg makes it for a container whose init is systemd. The calling thread must be one
// that is thrown away, while nothing of the container runs.
func (c *Container) makeKmsg(proc *os.File) error {
	if !c.plan.Systemd || c.pts == nil {
		return nil
	}
	root := c.root()
	k := &kmsg{}
	done := make(chan error)
	go func() { // this thread's /proc is the container's
		done <- sys.AsFSID(int(root.UID), int(root.GID), func() (err error) {
			k.master, k.slave, err = sys.OpenTerminal(c.pts)
			return err
		})
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("make /dev/kmsg: %w", err)
	}
	c.kmsg = k
	if err := k.attach(proc, c.init.Pid(), root.UID, root.GID); err != nil {
		return fmt.Errorf("make /dev/kmsg: %w", err)
	}
	go k.drain()
	return nil
}

func (k *kmsg) attach(proc *os.File, pid int, uid, gid uint32) error {
	t, err := unix.IoctlGetTermios(int(k.slave.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	if err := unix.IoctlSetTermios(int(k.slave.Fd()), unix.TCSETS, t); err != nil {
		return err
	}
	if err := errors.Join(k.slave.Chown(int(uid), int(gid)), k.slave.Chmod(0o644)); err != nil {
		return err
	}
	mounts, err := sys.Openat2(proc, fmt.Sprintf("%d/ns/mnt", pid), unix.OpenHow{Flags: unix.O_RDONLY})
	if err != nil {
		return err
	}
	defer mounts.Close()
	if err := sys.Setns(mounts, unix.CLONE_NEWNS); err != nil {
		return err
	}
	at, err := sys.Openat2(nil, "/dev/kmsg", unix.OpenHow{Flags: unix.O_PATH, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return err
	}
	defer at.Close()
	tree, err := sys.OpenTree(k.slave, "", false)
	if err != nil {
		return err
	}
	defer tree.Close()
	return sys.MoveMount(tree, at)
}

// drain throws away what the container writes, until the master is closed. The slave is
// kept open: without one, reading would fail.
func (k *kmsg) drain() {
	buf := make([]byte, 512)
	for {
		if _, err := k.master.Read(buf); err != nil {
			return
		}
	}
}
