// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// UserNS makes a user namespace with these mappings and without processes, for
// mounts that have their own mappings (runtime-spec, mounts, uidMappings). The
// caller closes it.
//
// A namespace starts with a process: here one that only sleeps. It is executed from
// a memfd, so that it has no memory of the caller, and killed as soon as its
// namespace is open.
func UserNS(uid, gid Map) (*os.File, error) {
	for name, m := range map[string]Map{"uid": uid, "gid": gid} {
		if err := m.Check(); err != nil {
			return nil, fmt.Errorf("make a user namespace: %s mapping: %w", name, err)
		}
	}
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result)
	// On another goroutine: the thread of the caller may have other file-system ids,
	// another root or mount namespace, which the child would inherit.
	go func() {
		// The child's parent-death signal comes when its thread ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		f, err := makeUserNS(uid, gid)
		done <- result{f, err}
	}()
	r := <-done
	if r.err != nil {
		if errors.Is(r.err, unix.ENOSPC) || errors.Is(r.err, unix.EUSERS) {
			r.err = fmt.Errorf("%w; raise the sysctl user.max_user_namespaces", r.err)
		}
		return nil, fmt.Errorf("make a user namespace: %w", r.err)
	}
	return r.f, nil
}

func makeUserNS(uid, gid Map) (*os.File, error) {
	prog, err := sleeper()
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	pidfd := -1
	pid, err := syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(int(prog.Fd())), []string{"sysbox-userns"}, &syscall.ProcAttr{
		Sys: &syscall.SysProcAttr{
			Cloneflags:                 unix.CLONE_NEWUSER,
			UidMappings:                procMap(uid),
			GidMappings:                procMap(gid),
			GidMappingsEnableSetgroups: true,
			Pdeathsig:                  unix.SIGKILL,
			PidFD:                      &pidfd,
		},
	})
	if err != nil {
		return nil, err
	}
	f, openErr := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/user")
	if pidfd >= 0 {
		err = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		unix.Close(pidfd)
	} else {
		err = unix.Kill(pid, unix.SIGKILL) // Linux before 5.2
	}
	if err != nil && err != unix.ESRCH {
		openErr = errors.Join(openErr, err)
	}
	for {
		// ECHILD: a reaper of all children was faster.
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	if openErr != nil {
		if f != nil {
			f.Close()
		}
		return nil, openErr
	}
	return f, nil
}

func procMap(m Map) []syscall.SysProcIDMap {
	var out []syscall.SysProcIDMap
	for _, e := range m {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(e.ContainerID), HostID: int(e.HostID), Size: int(e.Size)})
	}
	return out
}

// sleeper returns a memfd with a static ELF that sleeps until it is killed.
func sleeper() (*os.File, error) {
	fd, err := unix.MemfdCreate("sysbox-userns", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL { // Linux before 6.3
		fd, err = unix.MemfdCreate("sysbox-userns", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "sysbox-userns")
	if _, err := f.Write(sleeperELF()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sleeperELF returns an ELF header, one program header (elf(5)) and the code.
func sleeperELF() []byte {
	const base, headers = 0x400000, 64 + 56
	le := binary.LittleEndian
	size := uint64(headers + len(sleepCode))
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 2) // ET_EXEC
	b = le.AppendUint16(b, sleepMachine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+headers) // entry
	b = le.AppendUint64(b, 64)           // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // r-x
	for _, v := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, sleepCode...)
}
