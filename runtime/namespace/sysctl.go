// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
)

// WriteSysctls writes the sysctls of the container of init, whose host pid is given with the
// host's ids of the container's root; proc is the host's /proc. It writes through the host's procfs from this thread, which joins
// the container's namespaces for it: the kernel takes the tables of the
// writer's, and no mount of the container's can redirect the path. Those of
// the ipc namespace ask for the effective uid of its root, whatever the
// capabilities, and that of the uts namespace for the host's root.
func WriteSysctls(proc *os.File, settings []plan.Setting, pid int, uid, gid uint32) error {
	if len(settings) == 0 {
		return nil
	}
	for kind, flag := range map[string]int{"net": unix.CLONE_NEWNET, "ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS} {
		ns, err := sys.Openat2(proc, fmt.Sprintf("%d/ns/%s", pid, kind), unix.OpenHow{Flags: unix.O_RDONLY})
		if err != nil {
			return err
		}
		err = sys.Setns(ns, flag)
		ns.Close()
		if err != nil {
			return err
		}
	}
	ofUTS := func(s plan.Setting) bool { return s.Name == "kernel.domainname" }
	for _, s := range settings {
		if ofUTS(s) {
			if err := writeSysctl(proc, s); err != nil {
				return err
			}
		}
	}
	if err := sys.SetEffectiveIDs(int(uid), int(gid)); err != nil {
		return err
	}
	for _, s := range settings {
		if !ofUTS(s) {
			if err := writeSysctl(proc, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeSysctl(proc *os.File, s plan.Setting) error {
	fd, err := unix.Openat2(int(proc.Fd()), "sys/"+s.ProcPath(), &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH})
	if err == nil {
		_, err = unix.Write(fd, []byte(s.Value))
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("linux.sysctl: set %s to %q: %w", s.Name, s.Value, err)
	}
	return nil
}
