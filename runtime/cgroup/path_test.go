// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"strings"
	"testing"
)

func TestLocate(t *testing.T) {
	for _, c := range []struct {
		path   string
		driver Driver
		want   string // path, for systemd followed by slice and unit
		err    string
	}{
		{"/default/c1", Auto, "/default/c1", ""},
		{"/kubepods/burstable/pod1/c1", Cgroupfs, "/kubepods/burstable/pod1/c1", ""},
		{"", Auto, "/sysbox/ns/id", ""},
		{"docker/c1", Auto, "/sysbox/docker/c1", ""},
		{"/a/../../../b//c/.", Auto, "/b/c", ""},
		{"../../etc", Auto, "/sysbox/etc", ""},
		{"/a:b:c/d", Auto, "/a:b:c/d", ""}, // colons, but a path
		{"/", Auto, "", "root cgroup"},
		{"/..", Auto, "", "root cgroup"},
		{"..", Auto, "", "does not name a cgroup"},
		{"/a\nb", Auto, "", "control character"},
		{"kubepods-pod1.slice:cri-containerd:c1", Auto, "/kubepods.slice/kubepods-pod1.slice/cri-containerd-c1.scope kubepods-pod1.slice cri-containerd-c1.scope", ""},
		{"a-b-c.slice:p:n", Systemd, "/a.slice/a-b.slice/a-b-c.slice/p-n.scope a-b-c.slice p-n.scope", ""},
		{":docker:n", Auto, "/system.slice/docker-n.scope system.slice docker-n.scope", ""},
		{"-.slice:p:n", Auto, "/p-n.scope -.slice p-n.scope", ""},
		{"x.slice::n.scope", Auto, "/x.slice/n.scope x.slice n.scope", ""},
		{"", Systemd, "/system.slice/sysbox-ns-id.scope system.slice sysbox-ns-id.scope", ""},
		{"x.slice:p:n", Cgroupfs, "", "turn SystemdCgroup on"},
		{"/default/c1", Systemd, "", "turn SystemdCgroup off"},
		{"x:p:n", Auto, "", "must end in .slice"},
		{"a--b.slice:p:n", Auto, "", "name on both sides"},
		{"-a.slice:p:n", Auto, "", "name on both sides"},
		{".slice:p:n", Auto, "", "is not a valid name of a slice"},
		{"x.slice:p:", Auto, "", "no name after the last colon"},
		{"x.slice:p:n.slice", Auto, "", "use a scope"},
		{"x.slice:p:n o", Auto, "", "is not a valid name of a systemd unit"},
		{"x.slice:p:" + strings.Repeat("n", 250), Auto, "", "is not a valid name of a systemd unit"},
	} {
		l, err := locate(c.path, c.driver, "ns", "id")
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("locate(%q, %q): %v, want an error with %q", c.path, c.driver, err, c.err)
			}
			continue
		}
		got := l.path
		if l.driver == Systemd {
			got += " " + l.slice + " " + l.unit
		}
		if err != nil || got != c.want {
			t.Errorf("locate(%q, %q) = %q, %v; want %q", c.path, c.driver, got, err, c.want)
		}
	}
}
