// SPDX-License-Identifier: Apache-2.0

// Package terminal is what a container has of pseudo-terminals: those of its processes, and the
// one that stands for the kernel's log.
//
// What does not belong here: the streams that lead to the master (package stdio of the shim).
package terminal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// Kmsg stands for the kernel's log in a system container: a terminal at /dev/kmsg from
// which nothing ever comes and whose input is thrown away. Unlike a null device it can be
// waited for, without which the journal of systemd 262 does not start; unlike none at
// all it can be opened, without which kubelets do not.
type Kmsg struct{ master, slave *os.File }

// Close removes it, nil too: opening /dev/kmsg gives EIO from now on.
func (k *Kmsg) Close() {
	if k != nil {
		k.master.Close()
		k.slave.Close()
	}
}

// MakeKmsg makes it on the container's devpts pts, for init, whose host pid is given with the
// host's ids of the container's root. proc is the host's /proc. The calling thread must be one
// that is thrown away, while nothing of the container runs.
func MakeKmsg(pts, proc *os.File, pid int, uid, gid uint32) (*Kmsg, error) {
	k := &Kmsg{}
	done := make(chan error)
	go func() { // this thread's /proc is the container's
		done <- sys.AsFSID(int(uid), int(gid), func() (err error) {
			k.master, k.slave, err = sys.OpenTerminal(pts)
			return err
		})
	}()
	err := <-done
	if err != nil {
		return nil, fmt.Errorf("make /dev/kmsg: %w", err)
	}
	if err := k.attach(proc, pid, uid, gid); err != nil {
		k.Close()
		return nil, fmt.Errorf("make /dev/kmsg: %w", err)
	}
	go k.drain()
	return k, nil
}

func (k *Kmsg) attach(proc *os.File, pid int, uid, gid uint32) error {
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
func (k *Kmsg) drain() {
	buf := make([]byte, 512)
	for {
		if _, err := k.master.Read(buf); err != nil {
			return
		}
	}
}
