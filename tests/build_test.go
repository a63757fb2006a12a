// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const shim = "./cmd/containerd-shim-sysbox-v1"

// goBuild builds the shim in the way of a person who has cloned the repository.
func goBuild(t *testing.T, cgo string) (binary, output string, err error) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "shim")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, shim)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	out, err := cmd.CombinedOutput()
	return binary, string(out), err
}

// TestStaticBinary: the binary needs no program and no library of the host. With cgo it would
// need the C library of the machine that it was built on, so that build fails and says what
// to do.
func TestStaticBinary(t *testing.T) {
	binary, out, err := goBuild(t, "0")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary has a segment %v: it is not static", p.Type)
		}
	}
	if libs, err := f.ImportedLibraries(); err == nil && len(libs) > 0 {
		t.Errorf("the binary needs the libraries %v", libs)
	}
}

// TestNoBuildWithCgo: go build with cgo fails and says what to do, and go vet works.
func TestNoBuildWithCgo(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("there is no gcc, without which Go does not use cgo")
	}
	if _, out, err := goBuild(t, "1"); err == nil || !strings.Contains(out, "set_CGO_ENABLED_0_or_run_make_build") {
		t.Errorf("go build with cgo: %v, and its output does not say what to do:\n%s", err, out)
	}
	vet := exec.CommandContext(t.Context(), "go", "vet", shim)
	vet.Dir = ".."
	vet.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := vet.CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
}

// TestMakeHelp: make help shows each target that has a description, below a heading.
func TestMakeHelp(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("there is no make")
	}
	text, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", "help")
	cmd.Dir = ".."
	help, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, help)
	}
	text = bytes.ReplaceAll(text, []byte("\\\n"), nil)
	headings := 0
	for line := range strings.Lines(string(text)) {
		rule, summary, ok := strings.Cut(strings.TrimSpace(line), " ## ")
		if name, _, isRule := strings.Cut(rule, ":"); ok && isRule && !strings.Contains(string(help), name+strings.Repeat(" ", max(1, 16-len(name)))+summary+"\n") {
			t.Errorf("make help does not say of %s: %s", name, summary)
		}
		if heading, ok := strings.CutPrefix(strings.TrimSpace(line), "##@ "); ok {
			headings++
			if !strings.Contains(string(help), "\n"+heading+"\n") {
				t.Errorf("make help has no heading %q", heading)
			}
		}
		if names, ok := strings.CutPrefix(line, ".PHONY: "); ok {
			for _, name := range strings.Fields(names) {
				if n := strings.Count(string(help), "\n  "+name+" "); n != 1 && name != "help" && !slices.Contains(partsOfTargets, name) {
					t.Errorf("make help has %d lines of %s, want 1", n, name)
				}
			}
		}
	}
	if headings < 5 {
		t.Errorf("the Makefile has %d headings, want 5 or more", headings)
	}
}

// partsOfTargets are those that make calls itself.
var partsOfTargets = []string{"test-vm-6.1", "test-vm-6.12", "test-vm-newest", "vm-ready"}
