package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sysbox/tests/peers"
)

// smoke are the tests of a short run.
var smoke = []string{
	"TestAll", "TestScope", "TestModuleOfTheList", "TestTraps", "TestTrapArguments", "TestAttackInit", "TestAttackExec",
	"TestSystemdDriver", "TestAppArmor", "TestLimitsTakeEffect", "TestLimitsAreKept", "TestModprobe",
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
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = root
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", cmd, err)
		}
		return out
	}
	run("test", "-run", "^$", "./tests/e2e") // makes what the machine has no network for
	if t.Failed() {
		return
	}
	start := time.Now()
	out := run("run", "./tests/vm", "-kernel", "newest", "-timeout", "15m", "-test", "-run", "^("+strings.Join(smoke, "|")+")$",
		"./runtime/feature", "./runtime/cgroup", "./runtime/program", "./runtime", "./tests/e2e")
	t.Logf("boot and tests: %v", time.Since(start).Round(time.Second))
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
	for _, n := range smoke {
		if !passed[n] {
			t.Errorf("%s did not pass", n)
		}
	}
}
