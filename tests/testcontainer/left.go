// SPDX-License-Identifier: Apache-2.0

package testcontainer

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// NothingLeft looks for what a pod's only container, which is gone or was refused, could have
// left: its record, its ids, its cgroups, mounts of its files.
func NothingLeft(t testing.TB, p *Pod, bundle string) {
	t.Helper()
	filepath.WalkDir(p.Config.StateDir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, "/containers/") {
			t.Errorf("the record %s is left", path)
		}
		return nil
	})
	if left := Ranges(t, p); len(left) > 0 {
		t.Errorf("the pod has ids still: %q", left)
	}
	var s specs.Spec
	b, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		found, err := filepath.Glob(pattern + s.Linux.CgroupsPath)
		if err != nil || len(found) > 0 {
			t.Errorf("cgroups are left: %q, %v", found, err)
		}
	}
	if strings.Contains(Mounts(t), bundle) {
		t.Error("mounts are left")
	}
}

// Ranges are the records of the id ranges that the pod has taken: the directory has those of
// the whole host.
func Ranges(t testing.TB, p *Pod) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(p.Config.StateDir, "ids", "r-*"))
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // of another pod that has ended since
			t.Fatal(err)
		}
		if strings.Contains(string(b), p.Config.StateDir) {
			own = append(own, name)
		}
	}
	return own
}

// Mounts are those of the test's mount namespace, as text.
func Mounts(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
