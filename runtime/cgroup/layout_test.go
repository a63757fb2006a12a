package cgroup

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestParseLayout(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/cgroup.controllers", []byte("cpu memory\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	v2 := fmt.Sprintf("30 23 0:26 / %s rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n", dir)
	const v1 = `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
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
		got, err := ParseLayout(strings.NewReader(c.text))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", mode, got, err, c.want)
			continue
		}
		if got.Mode() != mode {
			t.Errorf("Mode is %q, want %q", got.Mode(), mode)
		}
	}
	if _, err := ParseLayout(strings.NewReader("22 1 0:21 / /proc rw - proc proc rw\n")); err == nil {
		t.Error("a host without cgroups has a layout")
	}
}
