// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"unsafe"

	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/testcontainer"
)

// TestFloor: nothing in a system container has the kernel start a program of the host's for
// a key, or shows the log of the host, with and without a profile, at once and in a nested
// user namespace. Keys of the container's own are found.
func TestFloor(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	docker := func(s *specs.Spec) {
		var err error
		if s.Linux.Seccomp, err = profile.GetDefaultProfile(s); err != nil {
			t.Fatal(err)
		}
	}
	all := func(s *specs.Spec) {
		docker(s)
		s.Linux.Seccomp.Syscalls = append(s.Linux.Seccomp.Syscalls, specs.LinuxSyscall{Names: []string{"request_key", "syslog"}, Action: specs.ActAllow})
	}
	for _, c := range []struct {
		name    string
		change  func(*specs.Spec)
		callout string // what request_key with information for a callout answers
	}{
		{"no profile", nil, "ENOKEY"},
		{"Docker's profile", docker, "EPERM"},
		{"a profile that allows them", all, "ENOKEY"},
	} {
		for name, f := range map[string]testcontainer.Function{"floor": floorInside, "floor-nested": floorNestedInside} {
			t.Run(c.name+", "+name, func(t *testing.T) {
				out, status := f.Run(t, c.change)
				want := "request_key: ENOKEY\nwith information: " + c.callout + "\nof a key that is there: found\nkeyctl that instantiates: EPERM\n" +
					"log: 0 bytes\nits size: 0\nby a number with further bits: 0, 0\nreading on: EPERM\nclearing: EPERM\nconsole: EPERM\n"
				if out != want || status != 0 {
					t.Errorf("exit status %d, output\n%swant\n%s", status, out, want)
				}
			})
		}
	}
}

var floorNestedInside = testcontainer.Inside("floor-nested", func() error {
	cmd := exec.Command(testcontainer.Program)
	cmd.Env = []string{floorInside.Env()}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	return cmd.Run()
})

var floorInside = testcontainer.Inside("floor", func() error {
	const description = "sysbox:floor"
	request := func(description, callout string) string {
		typ, _ := unix.BytePtrFromString("user")
		name, _ := unix.BytePtrFromString(description)
		var info unsafe.Pointer
		if callout != "" {
			p, _ := unix.BytePtrFromString(callout)
			info = unsafe.Pointer(p)
		}
		_, _, e := unix.Syscall6(unix.SYS_REQUEST_KEY, uintptr(unsafe.Pointer(typ)), uintptr(unsafe.Pointer(name)), uintptr(info), 0, 0, 0)
		return answer(e, "found")
	}
	fmt.Println("request_key:", request(description, ""))
	fmt.Println("with information:", request(description, "text of the container's"))
	// Where the kernel asks a helper, it leaves a key that says so, whatever came of it.
	keys, err := os.ReadFile("/proc/keys")
	if err != nil {
		return err
	}
	if bytes.Contains(keys, []byte(description)) {
		return fmt.Errorf("a helper was asked: %s", keys)
	}
	if _, err := unix.AddKey("user", "sysbox:own", []byte("secret"), unix.KEY_SPEC_PROCESS_KEYRING); err != nil {
		return err
	}
	fmt.Println("of a key that is there:", request("sysbox:own", ""))
	_, _, e := unix.Syscall6(unix.SYS_KEYCTL, unix.KEYCTL_INSTANTIATE, 1, 0, 0, 0, 0)
	fmt.Println("keyctl that instantiates:", answer(e, "done"))

	log := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, log)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	fmt.Printf("log: %d bytes\n", n)
	if n, err = unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil); err != nil {
		return fmt.Errorf("the size of the log: %w", err)
	}
	fmt.Printf("its size: %d\n", n)
	// The kernel takes an int and drops the rest of the register.
	const further = 1 << 32
	read, _, e1 := unix.Syscall(unix.SYS_SYSLOG, further|unix.SYSLOG_ACTION_READ_ALL, uintptr(unsafe.Pointer(&log[0])), uintptr(len(log)))
	size, _, e2 := unix.Syscall(unix.SYS_SYSLOG, further|unix.SYSLOG_ACTION_SIZE_BUFFER, 0, 0)
	fmt.Printf("by a number with further bits: %s, %s\n", answer(e1, fmt.Sprint(read)), answer(e2, fmt.Sprint(size)))
	for _, c := range []struct {
		name   string
		action int
	}{{"reading on", unix.SYSLOG_ACTION_READ}, {"clearing", unix.SYSLOG_ACTION_CLEAR}, {"console", unix.SYSLOG_ACTION_CONSOLE_LEVEL}} {
		_, err := unix.Klogctl(c.action, log[:16])
		var e unix.Errno
		errors.As(err, &e)
		fmt.Printf("%s: %s\n", c.name, answer(e, "done"))
	}
	return nil
})

// answer is the name of an errno, or what is said where there is none.
func answer(e unix.Errno, done string) string {
	if e == 0 {
		return done
	}
	return unix.ErrnoName(e)
}
