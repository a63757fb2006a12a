// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// hosts of which plans are made: what they have is in the bits of which.
func fuzzFacts(which byte) Facts {
	f := testFacts()
	f.AppArmor, f.SELinux = which&2 != 0, which&4 != 0
	if which&8 != 0 {
		f.Cgroup1, f.Cgroup2, f.BinfmtMiscNS, f.HostDirs, f.CapLast = true, false, false, nil, 37
	}
	return f
}

// refusalOf checks that an error is a whole [ValidationError], in one sentence.
func refusalOf(t *testing.T, err error) (r *ValidationError) {
	t.Helper()
	if !errors.As(err, &r) || r.Field == "" || r.Reason == "" || strings.ContainsAny(err.Error(), "\n\x00") {
		t.Errorf("not a whole ValidationError of one line: %q", err)
	}
	return r
}

func addSpecs(f *testing.F, add func(b []byte)) {
	files, err := filepath.Glob("testdata/*.spec.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no specs to begin with", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		add(b)
	}
}

// FuzzMake: no spec makes it panic, and none makes a plan weaker than the policy, which
// checkPolicy has. Its seeds are the specs of Docker, ctr, CRI and CRI-O.
func FuzzMake(f *testing.F) {
	addSpecs(f, func(b []byte) {
		for _, which := range []byte{0, 1, 6, 8} {
			f.Add(b, which)
		}
	})
	for _, spoil := range []func(*specs.Spec){
		func(s *specs.Spec) {
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 65536}}
			s.Linux.GIDMappings = s.Linux.UIDMappings
		},
		func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/proc/./1/ns/pid" },
		func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] },
		func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/sda", Type: "b", Major: 8}} },
		func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/mem", Type: "u", Major: 1, Minor: 1}}
		},
		func(s *specs.Spec) { s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true}} },
		func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"kernel.core_pattern": "|/x", "net/../kernel/x": ""}
		},
		func(s *specs.Spec) { s.Mounts[1].Destination, s.Mounts[1].Type = "/proc/sys", "bind" },
		func(s *specs.Spec) { s.Linux.RootfsPropagation = "rshared" },
	} {
		s := readSpec(f, "ctr")
		spoil(s)
		b, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, byte(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, which byte) {
		var s specs.Spec
		if json.Unmarshal(b, &s) != nil {
			return
		}
		in := Input{Namespace: "n", ID: "i", Bundle: "/b", Spec: &s, Facts: fuzzFacts(which), PodIDs: which&1 != 0}
		p, err := Make(in)
		if err != nil {
			refusalOf(t, err)
			return
		}
		checkPolicy(t, in, p)
		if again, err := Make(in); err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("the same input gave another plan (%v)", err)
		}
	})
}

// FuzzSettings: no variable and no annotation makes a plan weaker than without, and those
// that are not supported: refused with the list of those that are.
func FuzzSettings(f *testing.F) {
	f.Add("SYSBOX_SYSCONT_MODE=FALSE", "io.sysbox.honor-caps", "true", "docker")
	f.Add("SYSBOX_NO_SUCH=1", "io.sysbox.no-such", "", "ctr")
	f.Add("A=b", "io.sysbox.no-such", "", "ctr")
	f.Add("SYSBOX_SYSCONT_MODE", "io.sysbox.syscont-mode", "false", "cri-pause")
	f.Add("SYSBOX_", "io.sysbox.", "TRUE", "hardened")
	f.Add("SYSBOX_SKIP_UID_SHIFT=/a/../etc/hosts,/", "io.sysbox.skip-uid-shift", "/etc/hosts,", "docker")
	f.Add("sysbox_honor_caps=1", "IO.SYSBOX.HONOR-CAPS", "1", "crio")
	f.Add("SYSBOX_HONOR_CAPS=true", "io.kubernetes.cri.container-type", "sandbox", "cri-container")
	f.Add("SYSBOX_HONOR_CAPS=\u017frue", "io.kubernetes.cri-o.ContainerType", "sandbox", "crio")
	f.Fuzz(func(t *testing.T, env, key, value, base string) {
		if _, err := os.Stat(filepath.Join("testdata", filepath.Base(base)+".spec.json")); err != nil {
			base = "docker"
		}
		in := testInput(t, filepath.Base(base))
		in.Spec.Process.Env = append(in.Spec.Process.Env, env)
		in.Spec.Annotations = map[string]string{key: value}
		p, err := Make(in)
		if err == nil {
			checkPolicy(t, in, p)
			return
		}
		refusalOf(t, err)
		name, _, _ := strings.Cut(env, "=")
		var r *ValidationError
		if !errors.As(err, &r) || r.Reason != "unknown variable" && r.Reason != "unknown annotation" {
			return
		}
		for _, known := range knownSettings {
			if name == "SYSBOX_"+known && r.Field == "process.env" {
				t.Errorf("%s is said to be unknown", name)
			}
			if all := strings.ToUpper(strings.ReplaceAll(r.Hint, "-", "_")); !strings.Contains(all, known) {
				t.Errorf("the way out does not name %s: %s", known, r.Hint)
			}
		}
	})
}

// FuzzExec: a process that is added later gets no more than the container's policy.
func FuzzExec(f *testing.F) {
	addSpecs(f, func(b []byte) {
		var s specs.Spec
		if err := json.Unmarshal(b, &s); err != nil {
			f.Fatal(err)
		}
		p, err := json.Marshal(s.Process)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p, byte(0), true)
		f.Add(p, byte(7), false)
	})
	f.Add([]byte(`{"args":["a"],"cwd":"/","execCPUAffinity":{"initial":"0-8191,0-8191","final":"9-"}}`), byte(0), false)
	f.Add([]byte(`{"args":["a"],"cwd":"/","user":{"umask":511,"additionalGids":[65536]},"scheduler":{"policy":"SCHED_DEADLINE","runtime":1024,"deadline":1024}}`), byte(16), false)
	f.Fuzz(func(t *testing.T, b []byte, which byte, terminal bool) {
		var given specs.Process
		if json.Unmarshal(b, &given) != nil {
			return
		}
		base := "docker"
		if which&16 != 0 {
			base = "hardened"
		}
		in := testInput(t, base)
		if which&32 != 0 {
			in.Spec.Process.Env = append(in.Spec.Process.Env, "SYSBOX_HONOR_CAPS=TRUE")
		}
		c, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		p, err := MakeProcess(&given, terminal, c, fuzzFacts(which))
		if err != nil {
			refusalOf(t, err)
			return
		}
		checkKeptProcess(t, &given, p, c)
		for _, s := range append(append([]string{p.Cwd}, p.Args...), p.Env...) {
			if strings.ContainsRune(s, 0) || len(s) >= maxArg || strings.HasPrefix(s, "SYSBOX_") && s != p.Args[0] && !contains(p.Args, s) {
				t.Errorf("%.50q cannot be given to a program", s)
			}
		}
		if p.Terminal != terminal || len(p.Args) == 0 || !filepath.IsAbs(p.Cwd) || len(p.CPUs.Initial) > maxCPU || len(p.CPUs.Final) > maxCPU {
			t.Errorf("%+v", p)
		}
	})
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// FuzzOptions: options of a mount are understood, refused or handed to the file system,
// and of opposite ones the last counts.
func FuzzOptions(f *testing.F) {
	for _, s := range []string{
		"rbind,rprivate,ro", "ro,rw,ro", "r,ro,rro,rrw,rr,", "idmap=uids=0-100000-65536#65536-1-1;gids=0-100000-65536", "idmap=", "ridmap=uids=@0-0-1;gids=0-0-1",
		"noatime,relatime,strictatime,norelatime,rnoatime", "sync,async,lazytime,nolazytime", "X-mount.mkdir,x-,size=1,mode=755", "remount=1,move", "bind=1,tmpcopyup,\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list := strings.Split(s, ",")
		o, err := parseOptions("mounts[0]", list)
		if err != nil {
			refusalOf(t, err)
			return
		}
		if o.set&o.clear&^atimeBits != 0 || o.recSet&o.recClear&^atimeBits != 0 {
			t.Errorf("%q sets and clears the same: %+v", list, o)
		}
		for _, x := range []struct {
			on, off string
			set     bool
		}{{"ro", "rw", o.set&1 != 0}, {"nosuid", "suid", o.set&2 != 0}, {"nodev", "dev", o.set&4 != 0}, {"noexec", "exec", o.set&8 != 0}, {"rro", "rrw", o.recSet&1 != 0}} {
			if lasting(list, x.on, x.off) != x.set {
				t.Errorf("%q: %s is %v", list, x.on, x.set)
			}
		}
		if o.recursive && !o.bind || o.uid == nil != (o.gid == nil) || o.uid != nil && o.idmap == IDMapNone {
			t.Errorf("%q: %+v", list, o)
		}
		for _, d := range append(o.data, o.superblock...) {
			if !contains(list, d) || strings.ContainsRune(d, 0) {
				t.Errorf("%q hands %q to the file system", list, d)
			}
		}
	})
}

const atimeBits = 0x70 // MOUNT_ATTR__ATIME

// FuzzDeviceRules: of rules that are not refused, none lets a container read or write
// what is the host, asked as the kernel does: the last rule that fits decides.
func FuzzDeviceRules(f *testing.F) {
	for _, s := range []string{
		`[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}]`,
		`[{"allow":true},{"allow":false}]`, `[{"allow":false},{"allow":true}]`, `[{"allow":true,"access":"m"}]`,
		`[{"allow":true,"type":"c","major":1,"minor":1,"access":"r"}]`, `[{"allow":true,"type":"b","major":8,"minor":0,"access":"w"}]`,
		`[{"allow":true,"type":"a","access":"rwm"},{"allow":false,"type":"a","access":"rw"}]`, `[{"allow":true,"type":"a","access":"rwm"},{"allow":false,"type":"a","access":"w"}]`,
		`[{"allow":true,"type":"c","major":4294967297,"minor":1}]`, `[{"allow":true,"type":"c","major":10,"minor":-2}]`, `[{"allow":true,"type":"u"}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var given, list []specs.LinuxDeviceCgroup
		if json.Unmarshal(b, &given) != nil || json.Unmarshal(b, &list) != nil {
			return
		}
		if err := CheckDeviceRules(list, nil); err != nil {
			refusalOf(t, err)
			return
		}
		fits := func(n *int64, is int64) bool { return n == nil || *n < 0 || *n == is }
		may := func(kind string, major, minor int64, what string) bool {
			allowed := false
			for _, r := range given {
				if (r.Type == "" || r.Type == "a" || r.Type == kind) && fits(r.Major, major) && fits(r.Minor, minor) && (r.Access == "" || strings.Contains(r.Access, what)) {
					allowed = r.Allow
				}
			}
			return allowed
		}
		for _, what := range []string{"r", "w"} {
			for _, d := range append([][2]int64{{8, 0}, {259, 1}}, hostDevices...) {
				if d[0] != 8 && d[0] != 259 && may("c", d[0], d[1], what) || may("b", d[0], d[1], what) {
					t.Errorf("%s: device %v may be opened for %s", b, d, what)
				}
			}
		}
	})
}
