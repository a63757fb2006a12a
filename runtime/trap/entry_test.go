// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/runtime/host"
	"sysbox/tests/i386"
	"sysbox/tests/testcontainer"
)

// TestTrap32 calls by the i386 entry: the same answers, with 32-bit structures.
func TestTrap32(t *testing.T) {
	if runs, err := i386.Runs(); err != nil {
		t.Fatal(err)
	} else if !runs {
		t.Skip("this kernel runs no 32-bit programs")
	}
	const here = unix.AT_FDCWD
	bind, detach := uint32(unix.MS_BIND), uint32(unix.MNT_DETACH)
	const opened = 3 // the first file that is opened
	const (
		mknod, mount, access, mkdir, rmdir, umount, umount2, sysinfo    = 14, 21, 33, 39, 40, 22, 52, 116
		initModule, mknodat, finitModule, openTree, moveMount, fsopenNr = 128, 297, 350, 428, 429, 430
	)
	errno := func(e unix.Errno) int32 { return -int32(e) }
	calls := []call32{
		{mknod, []any{"/root/n", charDev, nullDev}, 0},
		{mknodat, []any{here, "/root/at", charDev, nullDev}, 0},
		{mknod, []any{"/root/disk", unix.S_IFBLK | 0o600, 8 << 8}, errno(unix.EPERM)},
		{mknod, []any{0, charDev, nullDev}, errno(unix.EFAULT)},
		{mkdir, []any{"/root/d", 0o755}, 0},
		{mount, []any{"/dev", "/root/d", 0, bind, 0}, 0},
		{access, []any{"/root/d/null", 0}, 0},
		{umount2, []any{"/root/d", detach}, 0},
		{access, []any{"/root/d/null", 0}, errno(unix.ENOENT)},
		{mount, []any{"/", "/root/d", 0, bind, 0}, 0},
		{access, []any{"/root/d/bin", 0}, 0},
		{umount, []any{"/root/d"}, 0},
		{umount2, []any{"/root/d", detach}, errno(unix.EINVAL)},
		{umount2, []any{"/proc", detach}, errno(unix.EINVAL)},
		{umount2, []any{"/proc", detach}, errno(unix.EINVAL)},
		{openTree, []any{here, "/dev", unix.OPEN_TREE_CLONE}, opened},
		{moveMount, []any{opened, "", here, "/root/d", unix.MOVE_MOUNT_F_EMPTY_PATH}, 0},
		{access, []any{"/root/d/null", 0}, 0},
		{umount2, []any{"/root/d", detach}, 0},
		{fsopenNr, []any{"overlay", 0}, opened + 1},
		{fsopenNr, []any{"nosuchfs", 0}, errno(unix.ENODEV)},
		{initModule, []any{"rubbish", 7, ""}, errno(unix.ENOEXEC)},
		{finitModule, []any{999, "", 0}, errno(unix.EBADF)},
		{mkdir, []any{"/t/l", 0o755}, 0},
		{mkdir, []any{"/t/u", 0o755}, 0},
		{mkdir, []any{"/t/w", 0o755}, 0},
		{mkdir, []any{"/t/m", 0o755}, 0},
		{mkdir, []any{"/t/l/sub", 0o755}, 0},
		{mount, []any{"o", "/t/m", "overlay", 0, layers}, 0},
		{sysinfo, []any{buffer32{}}, 0},
	}
	if release(t, 6, 6) { // a tmpfs has attributes
		// Without userxattr, EIO.
		calls = append(calls, call32{rmdir, []any{"/t/m/sub"}, 0}, call32{mkdir, []any{"/t/m/sub", 0o755}, 0})
	}
	bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs"})
		limit := int64(100 << 20)
		s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	}, "/bin/calls32")
	if err := os.WriteFile(filepath.Join(bundle, "rootfs/bin/calls32"), program32(calls), 0o755); err != nil {
		t.Fatal(err)
	}
	w, text := testcontainer.Pipe(t)
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exit := testcontainer.Wait(t, c.Init())
	out := []byte(text())
	if exit.Status != 0 || len(out) != 4*len(calls)+buffer32Size {
		t.Fatalf("exit status %d, %d bytes", exit.Status, len(out))
	}
	for i, c := range calls {
		if got := int32(binary.LittleEndian.Uint32(out[4*i:])); got != c.want {
			t.Errorf("call %d, number %d with %v: %d, want %d", i, c.nr, c.args, got, c.want)
		}
	}
	info := out[4*len(calls):]
	total := uint64(binary.LittleEndian.Uint32(info[16:])) * uint64(binary.LittleEndian.Uint32(info[52:]))
	if total != 100<<20 {
		t.Errorf("sysinfo tells of %d bytes of memory", total)
	}
	for _, name := range []string{"n", "at"} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(bundle, "rootfs/root", name), &st); err != nil || st.Rdev != nullDev || st.Mode&unix.S_IFMT != unix.S_IFCHR {
			t.Errorf("the node %s: %v, %v", name, err, st.Mode)
		}
	}
}

// release tells whether the kernel is this one or newer.
func release(t *testing.T, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	return host.KernelAtLeast(unix.ByteSliceToString(u.Release[:]), major, minor)
}

// call32 is a call by the i386 entry, with numbers, strings and the buffer as arguments.
type call32 struct {
	nr   uint32
	args []any
	want int32
}

// buffer32 is the argument that is a buffer of this size, struct sysinfo's.
type buffer32 struct{}

const buffer32Size = 64

// program32 is a program for i386 that makes the calls, and writes their results, 4 bytes
// each, and the buffer to its standard output.
func program32(calls []call32) []byte {
	const size = 8192 // of the code, at most
	le := binary.LittleEndian
	results := i386.Code + size
	buffer := results + 4*len(calls)
	length := 4*len(calls) + buffer32Size
	var code, texts []byte
	mov := func(reg byte, v uint32) { code = le.AppendUint32(append(code, 0xb8+reg), v) } // mov reg, v
	call := func(nr uint32, args ...any) {
		mov(0, nr) // eax
		for i, a := range args {
			v := uint32(0)
			switch a := a.(type) {
			case int:
				v = uint32(a)
			case uint32:
				v = a
			case string:
				v = uint32(results + length + len(texts))
				texts = append(append(texts, a...), 0)
			case buffer32:
				v = uint32(buffer)
			default:
				panic(fmt.Sprintf("an argument %T", a))
			}
			mov([]byte{3, 1, 2, 6, 7}[i], v) // ebx, ecx, edx, esi, edi
		}
		code = append(code, 0xcd, 0x80) // int 0x80
	}
	for i, c := range calls {
		call(c.nr, c.args...)
		code = le.AppendUint32(append(code, 0xa3), uint32(results+4*i)) // mov [result], eax
	}
	call(4, 1, results, length) // write
	call(1, 0)                  // exit
	code = append(code, make([]byte, size-len(code)+length)...)
	code = append(code, texts...)
	return i386.Executable(code)
}

// TestTrapX32: by the numbers of x32 nothing gets by the traps, whether the kernel has that
// entry or not, and nothing more is granted.
func TestTrapX32(t *testing.T) {
	t.Parallel()
	if goruntime.GOARCH != "amd64" {
		t.Skip("x32 is amd64's")
	}
	var received atomic.Int32
	p := testcontainer.NewPod(t, func(c *config.Config) { c.Testing.Received = func(int) { received.Add(1) } })
	out, status := p.Run(t, trapX32Inside.Bundle(t, nil))
	if status != 0 {
		t.Error(out)
	}
	if got := int(received.Load()); got != x32Calls {
		t.Errorf("%d calls were handed over, want %d\n%s", got, x32Calls, out)
	}
}

const x32Calls = 12

var trapX32Inside = testcontainer.Inside("trap x32", func() error {
	const x32, mknodNr = 0x40000000, 133 // __X32_SYSCALL_BIT; arm64 has no mknod
	here := unix.AT_FDCWD
	var keep []*byte
	text := func(s string) uintptr {
		p, _ := unix.BytePtrFromString(s)
		keep = append(keep, p)
		return uintptr(unsafe.Pointer(p))
	}
	var info unix.Sysinfo_t
	var attr unix.MountAttr
	if err := os.Mkdir("/root/d", 0o755); err != nil {
		return err
	}
	calls := []struct {
		name string
		nr   uintptr
		args [5]uintptr
		want string // of an entry that the kernel has not ENOSYS as well
	}{
		{"mknod", mknodNr, [5]uintptr{text("/root/n"), charDev, nullDev}, "done"},
		{"mknodat", unix.SYS_MKNODAT, [5]uintptr{uintptr(here), text("/root/at"), charDev, nullDev}, "done"},
		{"mknod of a disk", mknodNr, [5]uintptr{text("/root/disk"), unix.S_IFBLK | 0o600, 8 << 8}, "EPERM"},
		{"mount of a bind", unix.SYS_MOUNT, [5]uintptr{text("/dev"), text("/root/d"), 0, unix.MS_BIND}, "done"},
		{"mount of debugfs", unix.SYS_MOUNT, [5]uintptr{text("x"), text("/root"), text("debugfs")}, "EPERM ENODEV"},
		{"open_tree", unix.SYS_OPEN_TREE, [5]uintptr{uintptr(here), text("/dev"), unix.OPEN_TREE_CLONE}, "done"},
		{"open_tree_attr", unix.SYS_OPEN_TREE_ATTR, [5]uintptr{uintptr(here), text("/dev"), unix.OPEN_TREE_CLONE, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)}, "done"},
		{"move_mount", unix.SYS_MOVE_MOUNT, [5]uintptr{999, text(""), uintptr(here), text("/root/d"), unix.MOVE_MOUNT_F_EMPTY_PATH}, "EBADF"},
		{"fsopen", unix.SYS_FSOPEN, [5]uintptr{text("overlay")}, "done"},
		{"init_module", unix.SYS_INIT_MODULE, [5]uintptr{text("rubbish"), 7, text("")}, "ENOEXEC"},
		{"finit_module", unix.SYS_FINIT_MODULE, [5]uintptr{999, text(""), 0}, "EBADF"},
		{"sysinfo", unix.SYS_SYSINFO, [5]uintptr{uintptr(unsafe.Pointer(&info))}, "done"},
	}
	if len(calls) != x32Calls {
		return fmt.Errorf("%d calls", len(calls))
	}
	var errs []error
	for _, c := range calls {
		_, _, e := unix.Syscall6(x32|c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], 0)
		got := "done"
		if e != 0 {
			got = unix.ErrnoName(e)
		}
		fmt.Println(c.name, got)
		if got != "ENOSYS" && !strings.Contains(c.want, got) {
			errs = append(errs, fmt.Errorf("%s: %s, want %s", c.name, got, c.want))
		}
	}
	goruntime.KeepAlive(keep)
	return errors.Join(errs...)
})
