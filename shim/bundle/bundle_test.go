// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestGroup(t *testing.T) {
	for _, c := range []struct{ name, config, want string }{
		{"none", `{"ociVersion":"1.3.0"}`, "id"},
		{"CRI's own before what a pod's author may set", `{"annotations":{"io.containerd.runc.v2.group":"another","io.kubernetes.cri.sandbox-id":"pod"}}`, "pod"},
		{"CRI-O's as well", `{"annotations":{"io.containerd.runc.v2.group":"another","io.kubernetes.cri-o.SandboxID":"pod"}}`, "pod"},
		{"runc", `{"annotations":{"io.containerd.runc.v2.group":"r"}}`, "r"},
		{"CRI", `{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}`, "pod"},
		{"CRI-O", `{"annotations":{"io.kubernetes.cri-o.SandboxID":"crio"}}`, "crio"},
		{"empty value", `{"annotations":{"io.kubernetes.cri.sandbox-id":""}}`, "id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, Config), []byte(c.config), 0o600); err != nil {
				t.Fatal(err)
			}
			if g, err := Group(dir, "id"); err != nil || g != c.want {
				t.Errorf("group is %q, %v; want %q", g, err, c.want)
			}
		})
	}
	for _, s := range []string{"../../etc", "a/b", ".", "..", "a\x00b", "a b", strings.Repeat("x", 129)} {
		if n := safeName(s); len(n) != 64 || n == s {
			t.Errorf("%q became %q", s, n)
		}
	}
	if g, err := Group(t.TempDir(), "id"); err != nil || g != "id" {
		t.Errorf("without config.json the group is %q, %v", g, err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, Config), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Group(dir, "id"); err == nil {
		t.Error("half a config.json was accepted")
	}
}

// A sparse file of any size must not become memory.
func TestSizeLimit(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, ExitStatus))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(10 << 30); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadExit(dir); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("error is %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	want := Exit{Pid: 5, Status: 137, At: time.Unix(12345, 678).UTC()}
	if err := WriteExit(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadExit(dir); err != nil || got != want {
		t.Errorf("read %+v, %v; want %+v", got, err, want)
	}
	address := "unix:///run/s/" + strings.Repeat("0a", 32)
	if err := WriteAddress(dir, address); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadAddress(dir); err != nil || got != address {
		t.Errorf("read %q, %v", got, err)
	}
	names, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(names) != 0 {
		t.Errorf("files were left: %q, %v", names, err)
	}
}
