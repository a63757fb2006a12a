// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

func TestParseLayout(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/cgroup.controllers", []byte("cpu memory\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	v2 := fmt.Sprintf("30 23 0:26 / %s rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n", dir)
	all := func(sys.MountInfo) bool { return true }
	const v1 = `35 23 0:29 /part /mnt/before rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/with\040space rw,relatime - cgroup cgroup rw,xattr,name=systemd
34 31 0:29 /docker/x /mnt/again rw,relatime - cgroup cgroup rw,cpu,cpuacct
`
	hierarchies := []Hierarchy{
		{Mount: "/sys/fs/cgroup/cpu,cpuacct", Controllers: []string{"cpu", "cpuacct"}},
		{Mount: "/sys/fs/cgroup/with space", Controllers: []string{"name=systemd"}},
	}
	for mode, c := range map[string]struct {
		text string
		want *Layout
	}{
		"v1":     {v1, &Layout{V1: hierarchies}},
		"v2":     {v2, &Layout{Unified: dir, V2Controllers: []string{"cpu", "memory"}}},
		"hybrid": {v1 + v2, &Layout{V1: hierarchies, Unified: dir, V2Controllers: []string{"cpu", "memory"}}},
	} {
		got, err := ParseLayout(strings.NewReader(c.text), all)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", mode, got, err, c.want)
			continue
		}
		if got.Mode() != mode {
			t.Errorf("Mode is %q, want %q", got.Mode(), mode)
		}
	}
	if _, err := ParseLayout(strings.NewReader("22 1 0:21 / /proc rw - proc proc rw\n"), all); err == nil {
		t.Error("a host without cgroups has a layout")
	}
}

// TestCoveredHierarchies: what a later mount covers is in mountinfo, and no path leads to it.
func TestCoveredHierarchies(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounts, which takes root")
	}
	host, err := Host()
	if err != nil {
		t.Fatal(err)
	}
	if len(host.V1) == 0 {
		t.Skipf("this host (%s) has no v1 hierarchy to be covered", host.Mode())
	}
	kept := host.V1[0]
	at := t.TempDir()
	var got *Layout
	err = sys.Thread(func() error {
		if err := sys.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := sys.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		// A tmpfs over each hierarchy, as machines have over the folder of all; one
		// hierarchy is mounted where it is seen.
		if err := sys.Mount(kept.Mount, at, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		for _, dir := range host.mounts() {
			if err := sys.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
				return err
			}
		}
		f, err := os.Open("/proc/thread-self/mountinfo")
		if err != nil {
			return err
		}
		defer f.Close()
		got, err = ParseLayout(f, sys.MountInfo.Reached)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &Layout{V1: []Hierarchy{{Mount: at, Controllers: kept.Controllers}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v; want %+v", got, want)
	}
}
