// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BPF programs of type BPF_PROG_TYPE_CGROUP_DEVICE, which decide about access to devices in a
// cgroup2 directory (bpf(2), Linux 4.15).

// BPFInsn is one instruction, struct bpf_insn of linux/bpf.h on a little-endian machine.
type BPFInsn struct {
	Code uint8
	Regs uint8 // the destination in the lower half, the source in the upper
	Off  int16 // of jumps: instructions beyond the next
	Imm  int32
}

// LoadDeviceProgram loads a program into the kernel, which checks it and keeps it until its
// file and its attachments are gone. The kernel keeps 15 bytes of the name.
func LoadDeviceProgram(name string, insns []BPFInsn) (*os.File, error) {
	license := []byte("Apache-2.0\x00")
	attr := struct {
		kind, count        uint32
		insns, license     uint64
		logLevel, logSize  uint32
		log                uint64
		kernVersion, flags uint32
		name               [16]byte
		ifindex, expected  uint32
	}{kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(insns)), expected: unix.BPF_CGROUP_DEVICE}
	copy(attr.name[:15], name)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&insns[0])
	pin.Pin(&license[0])
	attr.insns, attr.license = uint64(uintptr(unsafe.Pointer(&insns[0]))), uint64(uintptr(unsafe.Pointer(&license[0])))
	return open(func() (fd int, err error) {
		// The verifier stops at a signal (EAGAIN), and the Go scheduler sends many.
		e := WithoutSignals(func() {
			fd, err = bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
		})
		return fd, cmp.Or(err, e)
	}, "BPF program "+name, "bpf", "BPF_PROG_LOAD, %q, %d instructions", name, len(insns))
}

// attachment is the argument of BPF_PROG_ATTACH and _DETACH.
type attachment struct{ target, program, kind, flags, replace uint32 }

// AttachDeviceProgram attaches a program to a cgroup2 directory, next to existing ones
// and those below: all of them must allow an access (BPF_F_ALLOW_MULTI).
func AttachDeviceProgram(dir, program *os.File) error {
	return attach(unix.BPF_PROG_ATTACH, "BPF_PROG_ATTACH", dir, program, unix.BPF_F_ALLOW_MULTI)
}

// DetachDeviceProgram undoes AttachDeviceProgram.
func DetachDeviceProgram(dir, program *os.File) error {
	return attach(unix.BPF_PROG_DETACH, "BPF_PROG_DETACH", dir, program, 0)
}

func attach(cmd int, what string, dir, program *os.File, flags uint32) error {
	return control(dir, func(target int) error {
		return control(program, func(fd int) error {
			a := attachment{target: uint32(target), program: uint32(fd), kind: unix.BPF_CGROUP_DEVICE, flags: flags}
			return call(func() error {
				_, err := bpf(cmd, unsafe.Pointer(&a), unsafe.Sizeof(a))
				return err
			}, "bpf", "%s, %q, %q", what, name(dir), name(program))
		})
	})
}

// maxPrograms is the maximum for a cgroup directory (BPF_CGROUP_MAX_PROGS, kernel/bpf/cgroup.c).
const maxPrograms = 64

// DevicePrograms are the numbers of the programs attached to a cgroup2 directory.
func DevicePrograms(dir *os.File) ([]uint32, error) {
	ids := make([]uint32, maxPrograms)
	attr := struct {
		target, kind, flags, attachFlags uint32
		ids                              uint64
		count, _                         uint32
	}{kind: unix.BPF_CGROUP_DEVICE, count: maxPrograms}
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&ids[0])
	attr.ids = uint64(uintptr(unsafe.Pointer(&ids[0])))
	err := control(dir, func(fd int) error {
		attr.target = uint32(fd)
		return call(func() error {
			_, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
			return err
		}, "bpf", "BPF_PROG_QUERY, %q", name(dir))
	})
	if err != nil {
		return nil, err
	}
	return ids[:min(attr.count, maxPrograms)], nil
}

// OpenProgram opens a program by its number and returns its name, too.
func OpenProgram(id uint32) (f *os.File, programName string, err error) {
	get := struct{ id, next, flags uint32 }{id: id}
	f, err = open(func() (int, error) {
		return bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&get), unsafe.Sizeof(get))
	}, fmt.Sprintf("BPF program %d", id), "bpf", "BPF_PROG_GET_FD_BY_ID, %d", id)
	if err != nil {
		return nil, "", err
	}
	// The beginning of struct bpf_prog_info, up to the name.
	var info struct {
		_    [64]byte
		name [16]byte
	}
	attr := struct {
		fd, size uint32
		info     uint64
	}{size: uint32(unsafe.Sizeof(info))}
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&info)
	attr.info = uint64(uintptr(unsafe.Pointer(&info)))
	err = control(f, func(fd int) error {
		attr.fd = uint32(fd)
		return call(func() error {
			_, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
			return err
		}, "bpf", "BPF_OBJ_GET_INFO_BY_FD, %d", id)
	})
	if err != nil {
		f.Close()
		return nil, "", err
	}
	return f, unix.ByteSliceToString(info.name[:]), nil
}

func bpf(cmd int, attr unsafe.Pointer, size uintptr) (int, error) {
	r, _, e := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(attr), size)
	if e != 0 {
		return -1, e
	}
	return int(r), nil
}
