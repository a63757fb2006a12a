// SPDX-License-Identifier: Apache-2.0

package testcontainer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime/fill"
	"sysbox/tests/leak"
	"sysbox/tests/pace"
)

// Program is where [Inside] functions are in a container: the test binary.
const Program = "/bin/inside"

// variable names the function that the test binary runs instead of its tests.
const variable = "TEST_INSIDE"

// functions are those of this binary, by their names.
var functions = map[string]func() error{}

// Function is a function of the test binary that runs in a container, as init, by an exec, or
// as a child of another that executes /proc/self/exe.
type Function struct{ name string }

// Inside makes a function one that runs in a container. Its error is printed and ends the
// process with status 1. To be called for package variables alone, with a name of its own each:
//
//	var reboots = testcontainer.Inside("reboot", func() error { ... })
func Inside(name string, f func() error) Function {
	if functions[name] != nil {
		panic("two functions are named " + name)
	}
	functions[name] = f
	return Function{name}
}

// Env is what the environment of a process has that executes [Program] to run the function.
func (f Function) Env() string { return variable + "=" + f.name }

// Process is one that runs the function.
func (f Function) Process() *specs.Process {
	return &specs.Process{Args: []string{Program}, Cwd: "/", Env: []string{"PATH=/bin", f.Env()}}
}

// Bundle makes a bundle of [Busybox] whose init is the function, and which change may change.
func (f Function) Bundle(t testing.TB, change func(*specs.Spec)) string {
	t.Helper()
	bundle := Busybox(t, func(s *specs.Spec) {
		s.Process.Env = append(s.Process.Env, f.Env(), pace.Variable+"="+os.Getenv(pace.Variable))
		if change != nil {
			change(s)
		}
	}, Program)
	AddProgram(t, bundle)
	return bundle
}

// AddProgram adds [Program] to a bundle.
func AddProgram(t testing.TB, bundle string) {
	t.Helper()
	root := filepath.Join(bundle, "rootfs")
	Copy(t, "/proc/self/exe", filepath.Join(root, Program))
	Libraries(t, root)
}

// Run runs the function as the init of a container, in a pod of its own, and returns what it
// printed and its exit status.
func (f Function) Run(t testing.TB, change func(*specs.Spec)) (out string, status int) {
	t.Helper()
	return NewPod(t).Run(t, f.Bundle(t, change))
}

// Main is for TestMain: it runs the tests, which must leave nothing (package leak). Where the
// binary was executed to run a function of [Inside], or to fill a container's folders, it does
// that instead.
func Main(m *testing.M) int {
	if status, mine := fill.Main(os.Args); mine {
		return status
	}
	name := os.Getenv(variable)
	if name == "" {
		return leak.Main(m, strings.TrimPrefix(Cgroup(), "/"))
	}
	f := functions[name]
	if f == nil {
		fmt.Printf("there is no function %q\n", name)
		return 2
	}
	if err := f(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
