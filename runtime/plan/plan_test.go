// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testFacts are those of a host with everything: Linux 6.18, cgroup version 2.
func testFacts() Facts {
	return Facts{
		KernelRelease: "6.18.0", CapLast: 40, Cgroup2: true, BinfmtMiscNS: true, Arch: "amd64",
		HostDirs: map[string]bool{"/lib/modules/6.18.0": true, "/usr/src/linux-headers-6.18.0": false}, OnlineCPUs: 2,
	}
}

func readSpec(t testing.TB, name string) *specs.Spec {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".spec.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s specs.Spec
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func testInput(t testing.TB, name string) Input {
	s := readSpec(t, name)
	return Input{Namespace: "default", ID: "demo", Bundle: "/run/bundle", Spec: s, Terminal: s.Process.Terminal, Facts: testFacts()}
}

// TestGolden compares the plans of specs as real callers write them with
// files; -update writes these.
func TestGolden(t *testing.T) {
	for _, name := range []string{"minimal", "ctr", "docker", "cri-pause", "cri-container", "crio", "hardened"} {
		t.Run(name, func(t *testing.T) {
			in := testInput(t, name)
			before, _ := json.Marshal(in.Spec)
			p, err := Make(in)
			if err != nil {
				t.Fatal(err)
			}
			if after, _ := json.Marshal(in.Spec); !bytes.Equal(before, after) {
				t.Error("Make changed the spec")
			}
			again, err := Make(in)
			if err != nil || !reflect.DeepEqual(p, again) {
				t.Errorf("the same input gave another plan (%v)", err)
			}
			got, err := json.MarshalIndent(p, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			file := filepath.Join("testdata", name+".plan.json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the plan differs from %s; look at the difference after go test -update", file)
			}
			checkPolicy(t, in, p)
		})
	}
}

// TestCgroupVersions: which cgroup tree a system container gets on which host.
func TestCgroupVersions(t *testing.T) {
	for _, c := range []struct {
		v1, v2 bool
		want   string
	}{{true, false, "cgroup"}, {true, true, "cgroup2"}, {false, true, "cgroup2"}} {
		in := testInput(t, "docker")
		in.Facts.Cgroup1, in.Facts.Cgroup2 = c.v1, c.v2
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		m := find(t, p, "/sys/fs/cgroup")
		if m.Type != c.want || !m.Own || m.Set != hardened {
			t.Errorf("v1 %v, v2 %v: %+v", c.v1, c.v2, m)
		}
	}
}

func find(t testing.TB, p *Plan, dest string) Mount {
	t.Helper()
	i := slices.IndexFunc(p.Mounts, func(m Mount) bool { return m.Destination == dest })
	if i < 0 {
		t.Fatalf("no mount at %s", dest)
	}
	return p.Mounts[i]
}

// checkPolicy fails if a plan gives a container more than the policy allows.
func checkPolicy(t testing.TB, in Input, p *Plan) {
	t.Helper()
	n := p.Namespaces
	for name, x := range map[string]Namespace{"user": n.User, "pid": n.PID, "network": n.Network, "ipc": n.IPC, "uts": n.UTS, "cgroup": n.Cgroup} {
		if x.Mode != NamespaceNew && x.Mode != NamespaceJoin {
			t.Errorf("%s namespace is %q", name, x.Mode)
		}
		if x.Mode == NamespaceJoin && !filepath.IsAbs(x.Path) && !(name == "user" && x.Path == "" && in.PodIDs) {
			t.Errorf("%s namespace is joined at %q", name, x.Path)
		}
		if strings.HasPrefix(x.Path, "/proc/1/") || strings.HasPrefix(x.Path, "/proc/self/") {
			t.Errorf("%s namespace is the host's: %s", name, x.Path)
		}
	}
	for _, m := range p.IDs.UID {
		if m.HostID == 0 {
			t.Error("the host's root is mapped")
		}
	}
	all := allCaps(in.Facts.CapLast)
	c := p.Process.Caps
	for _, s := range []struct{ sub, super uint64 }{
		{c.Bounding, all}, {c.Permitted, c.Bounding}, {c.Inheritable, c.Bounding}, {c.Effective, c.Permitted}, {c.Ambient, c.Permitted & c.Inheritable},
	} {
		if s.sub&^s.super != 0 {
			t.Errorf("capabilities beyond what they may be: %+v", c)
		}
	}
	if sc := in.Spec.Process.Capabilities; sc == nil && c.Inheritable|c.Ambient != 0 {
		t.Errorf("inheritable or ambient capabilities that nobody asked for: %+v", c)
	}
	var paths []string
	for i, m := range p.Mounts {
		paths = append(paths, m.Destination)
		if m.Type == "bind" && (!filepath.IsAbs(m.Source) || filepath.Clean(m.Source) != m.Source) {
			t.Errorf("bind from %q", m.Source)
		}
		if _, ok := fsTypes[m.Type]; !ok && m.Type != "bind" {
			t.Errorf("mount of %q", m.Type)
		}
		if m.Propagation&unix.MS_SHARED != 0 {
			t.Errorf("%s is shared with the host", m.Destination)
		}
		if m.Own {
			for _, l := range p.Mounts[i+1:] {
				if !l.Own && covers(m.Destination, l.Destination) {
					t.Errorf("%s, which init mounts, hides %s", m.Destination, l.Destination)
				}
			}
			for _, x := range append(slices.Clone(p.Masked), p.Readonly...) {
				if covers(m.Destination, x) {
					t.Errorf("%s, which init mounts, hides the mask at %s", m.Destination, x)
				}
			}
		}
	}
	for _, d := range p.Devices {
		paths = append(paths, d.Path)
		if what, _ := dangerOf(d.Type, int64(d.Major), int64(d.Minor), nil); what != "" && d.Type != "p" {
			t.Errorf("device %+v", d)
		}
	}
	paths = append(append(paths, p.Masked...), p.Readonly...)
	for _, s := range p.Storage {
		paths = append(paths, s.Path)
	}
	for _, x := range paths {
		if !filepath.IsAbs(x) || filepath.Clean(x) != x || x == "/" {
			t.Errorf("path %q is not clean", x)
		}
	}
	rules := p.Cgroup.Resources.Devices
	if len(rules) == 0 || rules[0].Allow || rules[0].Type != "a" {
		t.Error("devices are not denied by default")
	}
	for _, r := range rules {
		if r.Allow && (r.Type != "c" || wild(r.Major)) && strings.Trim(r.Access, "m") != "" {
			t.Errorf("device rule %+v", r)
		}
	}
	for _, e := range p.Process.Env {
		if strings.HasPrefix(e, "SYSBOX_") {
			t.Errorf("%s stayed in the environment", e)
		}
	}
	for _, s := range p.Sysctl {
		if strings.Contains("/"+s.ProcPath()+"/", "/../") {
			t.Errorf("sysctl %q", s.Name)
		}
	}
	if p.Rootfs.Path == "/" || !filepath.IsAbs(p.Rootfs.Path) {
		t.Errorf("root %q", p.Rootfs.Path)
	}
	if p.System && p.Process.OOMScoreAdj != nil && *p.Process.OOMScoreAdj < minOOMScoreAdj {
		t.Errorf("oom_score_adj %d", *p.Process.OOMScoreAdj)
	}
	checkHonoured(t, in, p)
}
