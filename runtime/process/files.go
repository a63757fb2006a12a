// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
)

// Files collects the files and limits that a program starts with. The zero value is ready for
// use.
type Files struct {
	// List is an argument of [Start].
	List []program.File
	// Limits, Tasks and Unified are for [Create] and [Join].
	Limits  map[int]unix.Rlimit
	Tasks   int
	Unified bool

	opened []*os.File
}

// Pass passes a file under a number.
func (s *Files) Pass(f *os.File, at int) { s.List = append(s.List, program.File{File: f, At: at}) }

// Own passes a file, and has Close close it.
func (s *Files) Own(f *os.File, at int) {
	s.opened = append(s.opened, f)
	s.Pass(f, at)
}

// Close closes the files that were passed with Own.
func (s *Files) Close() { CloseAll(s.opened) }

// CloseAll closes files. None may be nil.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Cgroups passes the files with which a program joins the container's cgroups, and owns them: the
// tasks files of version 1, and the directory unified of version 2, nil without one.
func (s *Files) Cgroups(tasks []*os.File, unified *os.File) {
	for i, f := range tasks {
		s.Own(f, FDFirst+i)
	}
	s.Tasks = len(tasks)
	if unified != nil {
		s.Own(unified, FDUnified)
		s.Unified = true
	}
}

// Standard passes what the program of every process needs: files 0 to 2 and, if the program
// writes there, the host's procfs. writes says that it does so whatever p has.
func (s *Files) Standard(p plan.Process, stdio Stdio, ids plan.IDs, writes bool) error {
	if writes || p.AppArmorProfile != "" || p.SELinuxLabel != "" || p.OOMScoreAdj != nil {
		f, err := os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		s.Own(f, FDProc)
	}
	s.Limits = map[int]unix.Rlimit{}
	for _, l := range p.Rlimits {
		var own unix.Rlimit
		if err := unix.Getrlimit(l.Type, &own); err != nil {
			return fmt.Errorf("process.rlimits: %s: %w", l.Name, err)
		}
		s.Limits[l.Type] = own
	}
	var null *os.File
	for i, f := range []*os.File{stdio.Stdin, stdio.Stdout, stdio.Stderr} {
		if f == nil {
			if null == nil {
				var err error
				if null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
					return err
				}
				s.opened = append(s.opened, null)
			}
			s.Pass(null, i)
			continue
		}
		if err := chownPipe(f, p, ids); err != nil {
			return err
		}
		s.Pass(f, i)
	}
	return nil
}

// pipefs is the magic number of the file system of anonymous pipes (linux/magic.h).
const pipefs = 0x50495045

// chownPipe makes a process's end of a pipe blocking, as programs expect, and gives it to the
// process's user, so that /dev/stdout can be opened again.
func chownPipe(f *os.File, p plan.Process, ids plan.IDs) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		if failed = unix.SetNonblock(int(fd), false); failed != nil {
			return
		}
		var st unix.Statfs_t
		if unix.Fstatfs(int(fd), &st) != nil || st.Type != pipefs {
			return
		}
		uid, okU := ids.UID.ToHost(p.UID)
		gid, okG := ids.GID.ToHost(p.GID)
		if okU && okG {
			failed = unix.Fchown(int(fd), int(uid), int(gid))
		}
	})
	return errors.Join(err, failed)
}
