// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

const (
	plantedKey = "sysbox-test-secret"
	plantedEnv = "TEST_PLANTED"
)

var keyringInside = testcontainer.Inside("keyring", tellKeyring)

var keyringInitInside = testcontainer.Inside("keyring-init", func() error {
	if err := tellKeyring(); err != nil {
		return err
	}
	time.Sleep(time.Hour)
	return nil
})

var keyringLeaveInside = testcontainer.Inside("keyring-leave", func() error {
	if err := tellKeyring(); err != nil {
		return err
	}
	goruntime.LockOSThread()
	if _, err := unix.KeyctlJoinSessionKeyring("sysbox-test"); err != nil {
		return err
	}
	// This thread alone has left the keyring: an execve ends the others.
	return unix.Exec("/bin/sleep", []string{"sleep", "1000"}, nil)
})

var keyringTrapInside = testcontainer.Inside("keyring-trap", func() error {
	goruntime.LockOSThread()
	ring, err := unix.KeyctlJoinSessionKeyring("_ses.c1")
	if err != nil {
		return err
	}
	if err := unix.KeyctlSetperm(ring, 0x3f3f3f3f); err != nil {
		return err
	}
	fmt.Println(ring)
	return unix.Exec("/bin/sleep", []string{"sleep", "1000"}, nil)
})

// tellKeyring prints the session keyring's number, and whether the planted key can be
// found from it.
func tellKeyring() error {
	ring, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil {
		return err
	}
	_, err = unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", plantedKey, 0)
	fmt.Println(ring, err == nil)
	return nil
}

// TestKeyring: no process of a container has the shim's session keyring; those of one
// container share one of its own, which nothing in the container can put another in
// the place of.
func TestKeyring(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	if os.Getenv(plantedEnv) == "" {
		// A keyring is a thread's own; a new process has that of the thread that made it.
		goruntime.LockOSThread()
		_, err := unix.KeyctlJoinSessionKeyring("sysbox-test")
		if err == unix.ENOSYS {
			t.Skip("this kernel has no keyrings")
		}
		if err == nil {
			_, err = unix.AddKey("user", plantedKey, []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKeyring$", "-test.v")
		cmd.Env = append(os.Environ(), plantedEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestKeyring")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if _, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", plantedKey, 0); err != nil {
		t.Fatalf("the key is not where it was planted: %v", err)
	}
	bundle := keyringInitInside.Bundle(t, func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{
			Path: "/bin/sh", Args: []string{"sh", "-c", keyringInside.Env() + " exec " + testcontainer.Program + " >/hook"},
		}}}
	})
	r, w := testcontainer.Lines(t)
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	init := r()
	if !strings.HasSuffix(init, " false") {
		t.Errorf("init: %q", init)
	}
	for _, uid := range []uint32{0, 1000} {
		if got := execInside(t, c, keyringInside, uid); got != init+"\n" {
			t.Errorf("exec of user %d: %q, init has %q", uid, got, init)
		}
	}
	if got, err := os.ReadFile(filepath.Join(bundle, "rootfs/hook")); err != nil || string(got) != init+"\n" {
		t.Errorf("startContainer hook: %q, %v, init has %q", got, err, init)
	}
}

// TestKeyringTrap: a user of the container who makes a keyring of the name that execs
// join, once init has left the real one, does not get root into it.
func TestKeyringTrap(t *testing.T) {
	// In a system container the listener of init's filter keeps init's keyring alive.
	bundle := keyringLeaveInside.Bundle(t, testcontainer.Ordinary)
	r, w := testcontainer.Lines(t)
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var serial int
	if line := r(); strings.Contains(line, " ") {
		serial, _ = strconv.Atoi(strings.Fields(line)[0])
	}
	if serial <= 0 {
		t.Fatal("init tells no number of its keyring")
	}
	goesOn(t, c.Init())
	// What the kernel frees later still holds it.
	for end := time.Now().Add(time.Minute * pace.Patience()); ; time.Sleep(10 * time.Millisecond) {
		if _, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, serial); err == unix.ENOKEY {
			break
		}
		if time.Now().After(end) {
			t.Fatal("init's keyring does not go away")
		}
	}
	p, err := c.Exec(t.Context(), runtime.ExecRequest{Process: asUser(keyringTrapInside, 1000), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err != nil {
		t.Fatal(err)
	}
	trap := r()
	goesOn(t, p)
	if ring := strings.Fields(execInside(t, c, keyringInside, 0))[0]; ring == trap {
		t.Errorf("root's exec has the keyring %s that a user has made", ring)
	}
	p.Signal(int(unix.SIGKILL))
	testcontainer.Wait(t, p)
}

// goesOn waits until a function has executed sleep.
func goesOn(t *testing.T, p *runtime.Process) {
	t.Helper()
	comm := fmt.Sprintf("/proc/%d/comm", p.Pid())
	for end := time.Now().Add(time.Minute * pace.Patience()); ; time.Sleep(time.Millisecond) {
		if b, _ := os.ReadFile(comm); string(b) == "sleep\n" {
			return
		}
		if time.Now().After(end) {
			t.Fatal("it does not go on")
		}
	}
}

// asUser is a process that runs a function as a user of the container.
func asUser(f testcontainer.Function, uid uint32) *specs.Process {
	p := f.Process()
	p.User = specs.User{UID: uid, GID: uid}
	return p
}

// execInside runs a function in a container and returns what it printed.
func execInside(t *testing.T, c *testcontainer.Container, f testcontainer.Function, uid uint32) string {
	t.Helper()
	p, text := c.Executed(t, asUser(f, uid))
	testcontainer.Wait(t, p)
	return text()
}
