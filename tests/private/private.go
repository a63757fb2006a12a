// SPDX-License-Identifier: Apache-2.0

// Package private gives a test program what it does not share with others on the
// machine: mount, pid, network and ipc namespaces, a root of its own in each cgroup
// hierarchy, folders in which programs keep their state, and one for temporary files. So
// two runs do not see each other, all that a program starts ends with it, and what a leak
// check finds is the program's own.
//
// What does not belong here: what tests start (package harness), and what they leave
// (package leak). It is imported by the tests of nearly all packages, so it imports none of
// them.
package private

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"sysbox/tests/pace"
)

const (
	// stageVariable tells a program that was executed again what it is.
	stageVariable = "SYSBOX_TEST_STAGE"
	// groupVariable is the name of the run's cgroups.
	groupVariable = "SYSBOX_TEST_GROUP"
	// dirVariable is the run's folder for temporary files.
	dirVariable = "SYSBOX_TEST_DIR"
)

// The stages of a program: one makes the namespaces, one fills them and becomes the one
// that reaps, whose child runs the tests.
const (
	filling = "fill"
	reaping = "reap"
	running = "run"
)

// Dir is the run's folder for temporary files, in which no other run has any; "" if the
// program has the machine to itself, or is not root.
func Dir() string { return os.Getenv(dirVariable) }

// Run runs a test program in namespaces, cgroups and folders of its own and returns its
// exit code. However the program ends, all that it has started ends as well. To be called
// by TestMain before all else, since the program is executed again, with the same
// arguments; what a test executes again with its own environment just runs, as it is
// inside.
//
// prepare is called outside, where the network is, and may set environment variables; nil
// for nothing to prepare. Where there is nothing to be kept apart the program just runs:
// in a machine of its own (see [pace.Machine]), and for users without privileges.
func Run(prepare func() error, run func() int) int {
	stage := os.Getenv(stageVariable)
	if stage == running {
		return run()
	}
	var code int
	var err error
	switch {
	case stage == filling:
		code, err = 1, fill()
	case stage == reaping:
		code, err = reap()
	case pace.Machine() || os.Getuid() != 0:
		return run()
	default:
		code, err = enter(prepare)
		if errors.Is(err, errNone) {
			fmt.Fprintln(os.Stderr, err)
			return run()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "a test run of its own:", err)
		return max(code, 1)
	}
	return code
}

// enter makes the namespaces and waits for what runs in them.
func enter(prepare func() error) (code int, err error) {
	if prepare != nil {
		if err := prepare(); err != nil {
			return 1, err
		}
	}
	// Short, since sockets are in it, whose paths have 107 bytes.
	dir, err := os.MkdirTemp("", "t")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // some tests run a part as another user
		return 1, err
	}
	g, err := makeGroups()
	defer func() { err = errors.Join(err, g.remove()) }()
	if err != nil {
		return 1, err
	}
	// The parent whose death is signalled is a thread.
	runtime.LockOSThread()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, fatal...)
	cmd := again(filling)
	cmd.Env = append(cmd.Env, groupVariable+"="+g.name, dirVariable+"="+dir, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGTERM,
		Setpgid:    true, // the terminal's signals come to this process, which passes them on
	}
	switch err := cmd.Start(); {
	case errors.Is(err, unix.EPERM):
		signal.Reset(fatal...)
		return 1, fmt.Errorf("%w: make namespaces: %w", errNone, err)
	case err != nil:
		return 1, err
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// errNone says that the tests run all the same, as in containers with few privileges.
var errNone = errors.New("the tests have nothing of their own here, and see what others do")

// fatal are the signals that end a run.
var fatal = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP}

func again(stage string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageVariable+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}
