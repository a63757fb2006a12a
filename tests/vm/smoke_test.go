// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sysbox/tests/peers"
)

// smoke are the tests of a short run.
var smoke = []string{
	"TestAll", "TestScope", "TestModuleOfTheList", "TestTraps", "TestTrap32", "TestTrapArguments", "TestAttackInit", "TestAttackExec",
	"TestSystemdDriver", "TestAppArmor", "TestLimitsTakeEffect", "TestLimitsAreKept", "TestOOMFloor", "TestModprobe",
}

// TestSmoke: the newest kernel, systemd as init, cgroup version 2 alone and AppArmor, on
// which each feature that the kernel should have is there, limits hold, profiles confine,
// calls are trapped, and a Debian boots in a scope of systemd's and runs Docker. `make
// test-vm` runs all the tests so.
func TestSmoke(t *testing.T) {
	switch {
	case testing.Short():
		t.Skip("emulates a machine for some minutes, which -short leaves out")
	case os.Getuid() != 0:
		t.Skip("makes a machine's disk, which takes root")
	}
	root, err := peers.Repository()
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (out []byte, said string, err error) {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = root
		var errs bytes.Buffer
		cmd.Stderr = io.MultiWriter(os.Stderr, &errs)
		if out, err = cmd.Output(); err != nil {
			err = fmt.Errorf("%s: %w", cmd, err)
		}
		return out, errs.String(), err
	}
	if _, _, err := run("test", "-timeout", "60m", "-run", "^$", "./tests/e2e"); err != nil { // makes what the machine has no network for
		t.Fatal(err)
	}
	boot := func() ([]byte, string, error) {
		start := time.Now()
		defer func() { t.Logf("boot and tests: %v", time.Since(start).Round(time.Second)) }()
		return run("run", "./tests/vm", "-kernel", "newest", "-timeout", "25m", "-test", "-run", "^("+strings.Join(smoke, "|")+")$",
			"./runtime/feature", "./runtime/cgroup", "./runtime/process", "./runtime/program", "./runtime/trap", "./tests/e2e")
	}
	out, console, err := boot()
	// Now and then the emulated kernel panics in the midst of an instruction that it has
	// just patched itself (a jump in dequeue_task_fair, once in a day of runs), which no
	// test of ours does. That is the emulator's; two in a row would not be.
	if err != nil && strings.Contains(console, "Kernel panic") {
		t.Logf("the machine's kernel panicked, and is booted once more: %v", err)
		out, _, err = boot()
	}
	if err != nil {
		t.Error(err)
	}
	passed := map[string]bool{}
	said := map[string]string{}
	for line := range bytes.Lines(out) {
		var e struct{ Action, Package, Test, Output string }
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("no event: %q", line)
		}
		switch e.Action {
		case "pass":
			passed[e.Test] = true
		case "output":
			said[e.Test] += e.Output
		case "fail", "skip":
			t.Errorf("%s %s: %s\n%s", e.Action, e.Package, e.Test, said[e.Test])
		}
	}
	if err != nil {
		// What is said after the last test: of leaks, and why a package has failed.
		t.Logf("the packages' own words:\n%s", said[""])
	}
	for _, n := range smoke {
		if !passed[n] {
			t.Errorf("%s did not pass", n)
		}
	}
}
