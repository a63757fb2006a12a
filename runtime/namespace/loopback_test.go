// SPDX-License-Identifier: Apache-2.0

package namespace_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
	"sysbox/uidmap"
)

// TestLoopback: lo of a network namespace that the runtime makes is up, with both of its
// addresses, and every group of the container may ping. What the spec says of that wins.
func TestLoopback(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	const both = "127.0.0.1: hello\n[::1]: hello\nping: "
	for _, c := range []struct {
		name   string
		user   specs.User
		change func(*specs.Spec)
		want   string
	}{
		{"root", specs.User{}, nil, "answered"},
		{"a user", specs.User{UID: 1000, GID: 1000}, nil, "answered"},
		{"the last group", specs.User{UID: 1000, GID: 1<<18 - 1}, nil, "answered"},
		{"an ordinary container", specs.User{UID: 1000, GID: 1000}, testcontainer.Ordinary, "answered"},
		{"the spec's mappings", specs.User{UID: 1000, GID: 1999}, mappedBy(1000, 3<<20, 1000, 5<<20), "answered"},
		{"the spec's mappings, the other way round", specs.User{UID: 1, GID: 999}, mappedBy(1000, 5<<20, 1000, 3<<20), "answered"},
		{"the spec's groups", specs.User{UID: 1000, GID: 1000}, func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ping_group_range": "1001 1002"}
		}, "permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m uidmap.Map
			bundle := loopbackInside.Bundle(t, func(s *specs.Spec) {
				s.Process.User = c.user
				if c.change != nil {
					c.change(s)
				}
				for _, x := range s.Linux.UIDMappings {
					m = append(m, uidmap.Mapping(x))
				}
			})
			if m != nil {
				if err := uidmap.Shift(t.TempDir(), filepath.Join(bundle, "rootfs"), m, m); err != nil {
					t.Fatal(err)
				}
			}
			w, text := testcontainer.Pipe(t)
			created := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
			if err := created.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			status := testcontainer.Wait(t, created.Init()).Status
			if out, want := text(), both+c.want+"\n"; out != want || status != 0 {
				t.Errorf("exit status %d, output %q, want %q", status, out, want)
			}
		})
	}
}

// mappedBy gives a spec mappings of its own: so many ids from a host id on, and then others.
func mappedBy(size, host, size2, host2 uint32) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: host, Size: size}, {ContainerID: size, HostID: host2, Size: size2}}
		s.Linux.GIDMappings = s.Linux.UIDMappings
	}
}

// TestJoinedLoopback: a network namespace of somebody else's stays as it is.
func TestJoinedLoopback(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	holder := exec.Command("/bin/sleep", "1000")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	}()
	_, status := testcontainer.Run(t, func(s *specs.Spec) {
		for i, n := range s.Linux.Namespaces {
			if n.Type == specs.NetworkNamespace {
				s.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid)
			}
		}
	}, "true")
	out, err := exec.CommandContext(t.Context(), "nsenter", "-t", strconv.Itoa(holder.Process.Pid), "-n", "sh", "-c", "ip -o link show dev lo up; cat /proc/sys/net/ipv4/ping_group_range").CombinedOutput()
	if string(out) != "1\t0\n" || err != nil || status != 0 {
		t.Errorf("exit status %d, lo and the groups are %q (%v): they were changed", status, out, err)
	}
}

var loopbackInside = testcontainer.Inside("loopback", func() error {
	for _, address := range []string{"127.0.0.1", "[::1]"} {
		text, err := overTCP(address + ":0")
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s\n", address, text)
	}
	err := ping()
	if errors.Is(err, unix.EACCES) {
		fmt.Println("ping:", err)
		return nil
	}
	if err == nil {
		fmt.Println("ping: answered")
	}
	return err
})

// overTCP sends a word to itself.
func overTCP(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	other, err := l.Accept()
	if err != nil {
		return "", err
	}
	defer other.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		return "", err
	}
	b := make([]byte, 5)
	_, err = io.ReadFull(other, b)
	return string(b), err
}

// ping sends an ICMP echo request to 127.0.0.1, as ping(8) does without rights, and takes the
// answer.
func ping() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, []byte{8, 0, 0, 0, 0, 0, 0, 1}, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	b := make([]byte, 64)
	n, _, err := unix.Recvfrom(fd, b, 0)
	if err == nil && (n != 8 || b[0] != 0) {
		return fmt.Errorf("the answer is % x", b[:n])
	}
	return err
}
