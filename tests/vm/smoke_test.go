package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sysbox/tests/peers"
)

// TestSmoke: the newest kernel, systemd as init, cgroup version 2 alone and AppArmor, on
// which each feature that the kernel should have is there, limits hold, profiles confine,
// and a Debian boots in a scope of systemd's. `make test-vm` runs all the tests so.
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
	test := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"test"}, args...)...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	test("-run", "^$", "./tests/e2e") // makes what the machine has no network for
	names := []string{"TestAll", "TestScope", "TestModuleOfTheList", "TestSystemdDriver", "TestAppArmor", "TestLimitsTakeEffect"}
	out := test("-v", "-count=1", "-p", "1", "-timeout", "15m", "-exec", filepath.Join(root, "tests/vm/run")+" -kernel newest -timeout 15m",
		"-run", "^("+strings.Join(names, "|")+")$", "./runtime/feature", "./runtime/cgroup", "./runtime", "./tests/e2e")
	for _, n := range names {
		if !strings.Contains(out, "--- PASS: "+n+" ") {
			t.Errorf("%s did not pass:\n%s", n, out)
		}
	}
}
