// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/uidmap"
)

func order(p *Plan, dests ...string) bool {
	last := -1
	for _, d := range dests {
		i := slices.IndexFunc(p.Mounts, func(m Mount) bool { return m.Destination == d })
		if i <= last {
			return false
		}
		last = i
	}
	return true
}

// TestRunIsNotHiding: systemd's tmpfs on /run and what is bound below it, also
// by the name /var/run that leads there.
func TestRunIsNotHiding(t *testing.T) {
	for _, c := range []struct {
		dest      string
		runOwn    bool
		runLockOw bool
	}{
		{"/srv/x", true, true},
		{"/run/secrets", false, true},
		{"/var/run/secrets", false, true},
		{"/run/lock/x", false, false},
		{"/runner", true, true},
	} {
		in := testInput(t, "cri-container")
		in.Spec.Mounts = slices.DeleteFunc(in.Spec.Mounts, func(m specs.Mount) bool { return under(m.Destination, "/var/run") })
		in.Spec.Mounts = append(in.Spec.Mounts, specs.Mount{Destination: c.dest, Type: "bind", Source: "/srv"})
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		if find(t, p, "/run").Own != c.runOwn || find(t, p, "/run/lock").Own != c.runLockOw {
			t.Errorf("%s: /run own %v, /run/lock own %v", c.dest, find(t, p, "/run").Own, find(t, p, "/run/lock").Own)
		}
		if !order(p, "/run", "/run/lock") || covers("/run", c.dest) && !order(p, "/run", c.dest) || covers("/run/lock", c.dest) && !order(p, "/run/lock", c.dest) {
			t.Errorf("%s: wrong order", c.dest)
		}
	}
}

// TestNotesOfMasks: who masks a file of the kernel's that nobody else masks is told that
// root of a system container can do without the mask.
func TestNotesOfMasks(t *testing.T) {
	for _, c := range []struct {
		masked, readonly string
		ordinary         bool
		want             string
	}{
		{"/proc/uptime", "", false, "linux.maskedPaths: /proc/uptime"},
		{"", "/sys/class/net", false, "linux.readonlyPaths: /sys/class/net"},
		{"/proc/kcore", "/proc/sys", false, ""},
		{"/etc/shadow", "/process", false, ""},
		{"/sys/devices/system/cpu/cpu0/thermal_throttle", "", false, ""},
		{"/proc/uptime", "", true, ""},
	} {
		in := testInput(t, "ctr")
		if c.masked != "" {
			in.Spec.Linux.MaskedPaths = append(in.Spec.Linux.MaskedPaths, c.masked)
		}
		if c.readonly != "" {
			in.Spec.Linux.ReadonlyPaths = append(in.Spec.Linux.ReadonlyPaths, c.readonly)
		}
		if c.ordinary {
			in.Spec.Process.Env = append(in.Spec.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE")
		}
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range p.Warnings {
			if strings.Contains(n, "only the kernel protects the file") {
				got = append(got, n)
			}
		}
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)) {
			t.Errorf("%s%s: warnings %q, want %q", c.masked, c.readonly, got, c.want)
		}
	}
}

// TestSpecWins: what the spec mounts is not mounted over by a rule.
func TestSpecWins(t *testing.T) {
	in := testInput(t, "ctr")
	for _, d := range []string{"/var/lib/docker", "/var/lib/rancher", "/var/lib/kubelet/pods", "/lib/modules", "/var/run", "/run/lock"} {
		in.Spec.Mounts = append(in.Spec.Mounts, specs.Mount{Destination: d, Type: "bind", Source: "/srv"})
	}
	in.Spec.Mounts = slices.DeleteFunc(in.Spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/run" })
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range p.Storage {
		got = append(got, s.Path)
	}
	if want := []string{"/var/lib/containerd", "/var/lib/containers", "/var/lib/kubelet", "/var/lib/k0s", "/var/lib/buildkit"}; !slices.Equal(got, want) {
		t.Errorf("storage %q, want %q", got, want)
	}
	for _, m := range p.Mounts {
		if m.Origin == "systemd" || m.Origin == "kernel-files" {
			t.Errorf("%s mounts over the spec at %s", m.Origin, m.Destination)
		}
	}
}

// TestCgroupTreeIsOwn: the spec's mounts there go, with a note if they were more
// than the usual one.
func TestCgroupTreeIsOwn(t *testing.T) {
	in := testInput(t, "docker")
	in.Spec.Mounts = append(in.Spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup/memory", Type: "bind", Source: "/srv"})
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range p.Mounts {
		if under(m.Destination, "/sys/fs/cgroup") {
			n++
		}
	}
	if n != 1 || len(p.Warnings) != 1 || !p.Cgroup.Delegate || !order(p, "/sys", "/sys/fs/cgroup") {
		t.Errorf("%d mounts, warnings %q", n, p.Warnings)
	}
}

// TestSystemd: which programs are taken for it, and what they get.
func TestSystemd(t *testing.T) {
	for arg, want := range map[string]bool{
		"/sbin/init": true, "/usr/sbin/init": true, "/lib/systemd/systemd": true, "/usr/lib/systemd/systemd": true,
		"/bin/sh": false, "systemd": false, "/usr/bin/systemd-run": false,
	} {
		in := testInput(t, "ctr")
		in.Spec.Process.Args = []string{arg}
		in.Spec.Linux.MaskedPaths = append(in.Spec.Linux.MaskedPaths, "/run", "/tmp/")
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		if p.Systemd != want || slices.Contains(p.Process.Env, "container=oci") != want || slices.Contains(p.Masked, "/run") == want || slices.Contains(p.Masked, "/tmp") == want {
			t.Errorf("%s: %v, env %q, masked %q", arg, p.Systemd, p.Process.Env, p.Masked)
		}
	}
	in := testInput(t, "ctr")
	in.Spec.Process.Env = append(in.Spec.Process.Env, "container=podman")
	if p, err := Make(in); err != nil || slices.Contains(p.Process.Env, "container=oci") {
		t.Errorf("the caller's $container was changed: %v", err)
	}
}

// TestReadOnlyRoot has places to write.
func TestReadOnlyRoot(t *testing.T) {
	in := testInput(t, "minimal")
	in.Spec.Root.Readonly = true
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if find(t, p, "/run").Origin != "read-only-root" || find(t, p, "/tmp").Origin != "read-only-root" || !p.Rootfs.Readonly {
		t.Errorf("%+v", p.Mounts)
	}
}

// TestIDs: where ids come from and who shifts the rootfs and the binds.
func TestIDs(t *testing.T) {
	maps := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	for _, c := range []struct {
		name  string
		maps  []specs.LinuxIDMapping
		user  []specs.LinuxNamespace
		pod   bool
		want  IDSource
		mode  NamespaceMode
		path  string
		shift bool
	}{
		{"nothing", nil, nil, false, IDsAllocate, NamespaceNew, "", true},
		{"nothing, in a pod", nil, nil, true, IDsJoin, NamespaceJoin, "", true},
		{"namespace without maps", nil, []specs.LinuxNamespace{{Type: "user"}}, false, IDsAllocate, NamespaceNew, "", true},
		{"maps alone", maps, nil, false, IDsSpec, NamespaceNew, "", false},
		{"maps, in a pod", maps, []specs.LinuxNamespace{{Type: "user"}}, true, IDsSpec, NamespaceNew, "", false},
		{"path", nil, []specs.LinuxNamespace{{Type: "user", Path: "/u"}}, true, IDsJoin, NamespaceJoin, "/u", false},
		{"path and maps", maps, []specs.LinuxNamespace{{Type: "user", Path: "/u"}}, false, IDsJoin, NamespaceJoin, "/u", false},
	} {
		in := testInput(t, "minimal")
		in.PodIDs = c.pod
		in.Spec.Linux.UIDMappings, in.Spec.Linux.GIDMappings = c.maps, c.maps
		in.Spec.Linux.Namespaces = append(in.Spec.Linux.Namespaces, c.user...)
		in.Spec.Mounts = []specs.Mount{{Destination: "/d", Type: "bind", Source: "/s"}, {Destination: "/e", Type: "bind", Source: "/s", Options: []string{"idmap"}}}
		p, err := Make(in)
		if err != nil {
			t.Error(c.name, err)
			continue
		}
		if p.IDs.Source != c.want || p.Namespaces.User != (Namespace{c.mode, c.path}) || p.IDs.ShiftRootfs != c.shift || len(p.IDs.UID) != len(c.maps) {
			t.Errorf("%s: %+v %+v", c.name, p.IDs, p.Namespaces.User)
		}
		if got := find(t, p, "/d").IDMap == IDMapContainer; got != c.shift {
			t.Errorf("%s: bind shifted: %v", c.name, got)
		}
		if find(t, p, "/e").IDMap != IDMapContainer {
			t.Errorf("%s: a bare idmap is %q", c.name, find(t, p, "/e").IDMap)
		}
	}
}

// TestMapsOfTheCaller: mappings of any size and base are the caller's to give; the host's
// root is not, unless the administrator says so, and then the container is an ordinary one.
func TestMapsOfTheCaller(t *testing.T) {
	for _, c := range []struct {
		name     string
		uid, gid []specs.LinuxIDMapping
		hostRoot bool
	}{
		{"other gids", []specs.LinuxIDMapping{{HostID: 1000, Size: 65535}}, []specs.LinuxIDMapping{{HostID: 2000, Size: 65535}}, false},
		{"one id", []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}, []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}, false},
		{"a gap", []specs.LinuxIDMapping{{HostID: 1000, Size: 10}, {ContainerID: 20, HostID: 2000, Size: 10}}, []specs.LinuxIDMapping{{HostID: 1000, Size: 100}}, false},
		{"the host's root", []specs.LinuxIDMapping{{HostID: 0, Size: 10}, {ContainerID: 10, HostID: 1000, Size: 65535}}, []specs.LinuxIDMapping{{HostID: 1, Size: 65535}}, true},
		{"the host's root group", []specs.LinuxIDMapping{{HostID: 1, Size: 65535}}, []specs.LinuxIDMapping{{HostID: 1, Size: 5}, {ContainerID: 5, HostID: 0, Size: 1}}, true},
	} {
		in := testInput(t, "minimal")
		in.Spec.Linux.UIDMappings, in.Spec.Linux.GIDMappings, in.AllowHostRoot = c.uid, c.gid, true
		p, err := Make(in)
		if err != nil {
			t.Error(c.name, err)
			continue
		}
		if p.IDs.Source != IDsSpec || !slices.Equal(p.IDs.UID, mapOf(c.uid)) || !slices.Equal(p.IDs.GID, mapOf(c.gid)) {
			t.Errorf("%s: %+v", c.name, p.IDs)
		}
		if p.System == c.hostRoot {
			t.Errorf("%s: a system container: %v", c.name, p.System)
		}
		in.AllowHostRoot = false
		if _, err := Make(in); (err != nil) != c.hostRoot {
			t.Errorf("%s, not allowed: %v", c.name, err)
		}
	}
}

// TestDeviceRules: a device of the spec has the access that the spec says.
func TestDeviceRules(t *testing.T) {
	major, minor := int64(240), int64(1)
	in := testInput(t, "ctr")
	in.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: major, Minor: minor}}
	in.Spec.Linux.Resources.Devices = append(in.Spec.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "r"})
	// Callers begin with one of both; the last counts.
	all := []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}, {Allow: false, Access: "rwm"}}
	in.Spec.Linux.Resources.Devices = append(all, in.Spec.Linux.Resources.Devices...)
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	fuse := false
	for _, r := range p.Cgroup.Resources.Devices {
		if r.Major != nil && *r.Major == major && r.Access != "r" {
			t.Errorf("access widened to %q", r.Access)
		}
		fuse = fuse || r.Allow && r.Major != nil && *r.Major == 10 && r.Minor != nil && *r.Minor == 229
	}
	if !fuse {
		t.Error("/dev/fuse is not allowed")
	}
}

// TestSysctlNames: both forms of a name come to the same file.
func TestSysctlNames(t *testing.T) {
	in := testInput(t, "minimal")
	in.Spec.Linux.Sysctl = map[string]string{
		"net/ipv4/conf/eth0.1/forwarding": "1", "net.ipv6.conf.eth0/2.forwarding": "0", "kernel.shmmax": "5",
	}
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range p.Sysctl {
		got = append(got, s.ProcPath())
	}
	if want := []string{"kernel/shmmax", "net/ipv4/conf/eth0.1/forwarding", "net/ipv6/conf/eth0.2/forwarding"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestWidenSeccomp: for system containers with a profile, and no others.
func TestWidenSeccomp(t *testing.T) {
	for name, want := range map[string]bool{"docker": true, "ctr": false, "hardened": false} {
		in := testInput(t, name)
		if name == "hardened" {
			in.Spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
		}
		called := false
		in.WidenSeccomp = func(s *specs.LinuxSeccomp) *specs.LinuxSeccomp {
			called = true
			s.DefaultAction = specs.ActLog
			return s
		}
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		if called != want || want && p.Seccomp.DefaultAction != specs.ActLog || want && in.Spec.Linux.Seccomp.DefaultAction == specs.ActLog {
			t.Errorf("%s: called %v", name, called)
		}
	}
}

// TestSandbox: the container that holds a pod's namespaces is an ordinary one.
func TestSandbox(t *testing.T) {
	for k, v := range map[string]string{"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri-o.ContainerType": "sandbox"} {
		in := testInput(t, "minimal")
		in.Spec.Annotations = map[string]string{k: v}
		p, err := Make(in)
		if err != nil || p.System || p.Storage != nil || p.Process.Caps.Effective != 0 {
			t.Errorf("%s: %+v %v", k, p, err)
		}
	}
}

// TestFileSystems: what of a mount's options becomes of which field.
func TestFileSystems(t *testing.T) {
	in := testInput(t, "hardened")
	in.Spec.Mounts = append(
		in.Spec.Mounts,
		specs.Mount{Destination: "a/../t", Type: "tmpfs", Source: "x", Options: []string{"rro", "noatime", "sync", "size=1m", "slave"}},
		specs.Mount{Destination: "/up", Type: "tmpfs", Options: []string{"tmpcopyup"}},
		specs.Mount{Destination: "/rel", Type: "none", Source: "vol", Options: []string{"rbind", "ridmap", "rw"}},
		specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Options: []string{"ro"}},
	)
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Mount{
		{
			Destination: "/t", Type: "tmpfs", Source: "x", Own: true, Data: []string{"sync", "size=1m"}, Propagation: unix.MS_SLAVE,
			Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOATIME, Clear: unix.MOUNT_ATTR__ATIME, Origin: "spec",
		},
		{Destination: "/up", Type: "tmpfs", CopyUp: true, Origin: "spec"},
		{Destination: "/rel", Type: "bind", Source: "/run/bundle/vol", Recursive: true, Clear: unix.MOUNT_ATTR_RDONLY, IDMap: IDMapContainer, Origin: "spec"},
		{Destination: "/sys/fs/cgroup", Type: "cgroup2", Source: "cgroup", Own: true, Set: unix.MOUNT_ATTR_RDONLY, Origin: "spec"},
	} {
		if got := find(t, p, want.Destination); !reflect.DeepEqual(got, want) {
			t.Errorf("\n got %+v\nwant %+v", got, want)
		}
	}
	if p.Cgroup.Delegate {
		t.Error("a cgroup tree that is mounted read-only was given to the container")
	}
	if len(p.Warnings) != 1 {
		t.Errorf("the relative destination should be noted: %q", p.Warnings)
	}
	in.Facts.Cgroup1, in.Facts.Cgroup2 = true, false
	in.Spec.Mounts[len(in.Spec.Mounts)-1].Type = "cgroup2"
	if _, err := Make(in); !isRefusal(err) {
		t.Errorf("cgroup2 on a host without: %v", err)
	}
}

// TestCheckIDs: once the ids are known, what they lack is refused.
func TestCheckIDs(t *testing.T) {
	gid := uint32(70000)
	in := testInput(t, "ctr")
	in.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: 240, GID: &gid}}
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	p.IDs.UID = uidmap.Map{{HostID: 100000, Size: 70001}}
	p.IDs.GID = p.IDs.UID
	if err := p.CheckIDs(); err != nil {
		t.Error(err)
	}
	p.IDs.GID = uidmap.Map{{HostID: 100000, Size: 70000}}
	if err := p.CheckIDs(); !isRefusal(err) {
		t.Errorf("device: %v", err)
	}
	p.Process.UID = 70001
	if err := p.CheckIDs(); !isRefusal(err) {
		t.Errorf("user: %v", err)
	}
}

// TestMasksAreNotHidden: a mask below a tmpfs makes it the host's.
func TestMasksAreNotHidden(t *testing.T) {
	in := testInput(t, "ctr")
	in.Spec.Process.Args = []string{"sh"}
	in.Spec.Linux.ReadonlyPaths = append(in.Spec.Linux.ReadonlyPaths, "/run/x")
	in.Spec.Linux.MaskedPaths = append(in.Spec.Linux.MaskedPaths, "/dev/shm")
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if find(t, p, "/run").Own || find(t, p, "/dev/shm").Own || !find(t, p, "/dev/mqueue").Own {
		t.Error("init's own mounts hide masks")
	}
	in.Spec.Linux.MaskedPaths = append(in.Spec.Linux.MaskedPaths, "/sys/fs/cgroup/x")
	if p, err = Make(in); err != nil || !slices.Contains(p.InitMasked, "/sys/fs/cgroup/x") || slices.Contains(p.Masked, "/sys/fs/cgroup/x") {
		t.Errorf("%v, and masks are %q, by init %q", err, p.Masked, p.InitMasked)
	}
	in.Spec.Process.Env = append(in.Spec.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE")
	if p, err = Make(in); err == nil && len(p.InitMasked)+len(p.InitReadonly) > 0 || p != nil && p.InitReveal {
		t.Error("an ordinary container's init masks what its root can unmask")
	}
}

// TestMasksBesideViews: where the spec has mounted something on proc, the tree makes all.
func TestMasksBesideViews(t *testing.T) {
	in := testInput(t, "ctr")
	in.Spec.Mounts = append(in.Spec.Mounts, specs.Mount{Destination: "/proc/meminfo", Type: "bind", Source: "/srv/meminfo", Options: []string{"bind"}})
	p, err := Make(in)
	if err != nil || !p.RevealProc || p.InitReveal || len(p.InitMasked) > 0 || !slices.Contains(p.Masked, "/proc/keys") {
		t.Errorf("%v, %+v", err, p)
	}
}

// TestMountLabel: the new file systems that SELinux labels as a whole get the label.
func TestMountLabel(t *testing.T) {
	const label = "system_u:object_r:container_file_t:s0:c1,c2"
	in := testInput(t, "ctr")
	in.Facts.SELinux = true
	in.Spec.Linux.MountLabel = label
	in.Spec.Mounts = append(in.Spec.Mounts, specs.Mount{Destination: "/own", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1k", "context=\"other:s0:c1,c2\""}})
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	for destination, want := range map[string]bool{
		"/dev": true, "/dev/pts": true, "/dev/shm": true, "/run": true, "/proc": false, "/sys": false, "/dev/mqueue": false, "/own": false,
	} {
		if got := slices.Contains(find(t, p, destination).Data, "context="+label); got != want {
			t.Errorf("%s has the label: %v, want %v", destination, got, want)
		}
	}
	if got := find(t, p, "/own").Data; !slices.Contains(got, "context=other:s0:c1,c2") {
		t.Errorf("the mount's own label: %q", got)
	}
	if p.MountLabel != label {
		t.Errorf("label %q", p.MountLabel)
	}
}

// mapOf has the mappings of a spec.
func mapOf(list []specs.LinuxIDMapping) uidmap.Map {
	m := make(uidmap.Map, 0, len(list))
	for _, e := range list {
		m = append(m, uidmap.Mapping(e))
	}
	return m
}

// TestPingGroups: the range for a new network namespace holds all groups of the container, in
// the kernel's order, and nothing is written where the spec has it or the namespace is another's.
func TestPingGroups(t *testing.T) {
	fresh := Namespaces{Network: Namespace{Mode: NamespaceNew}}
	span := func(container, host, size uint32) uidmap.Mapping {
		return uidmap.Mapping{ContainerID: container, HostID: host, Size: size}
	}
	for _, c := range []struct {
		name        string
		plan        Plan
		first, last uint32
		ok          bool
	}{
		{"a range", Plan{Namespaces: fresh, IDs: IDs{GID: uidmap.Map{span(0, 1<<20, 65536)}}}, 0, 65535, true},
		{"up to the last id", Plan{Namespaces: fresh, IDs: IDs{GID: uidmap.Map{span(0, 1, 1<<32-2)}}}, 0, 1<<32 - 3, true},
		{"two", Plan{Namespaces: fresh, IDs: IDs{GID: uidmap.Map{span(0, 1<<20, 10), span(100, 1<<21, 10)}}}, 0, 109, true},
		{"three, the middle one last", Plan{Namespaces: fresh, IDs: IDs{GID: uidmap.Map{span(0, 1<<20, 10), span(200, 1<<22, 10), span(100, 1<<21, 10)}}}, 0, 209, true},
		{"the other way round", Plan{Namespaces: fresh, IDs: IDs{GID: uidmap.Map{span(5, 1<<20, 10), span(0, 1<<21, 5)}}}, 0, 4, true},
		{"not known", Plan{Namespaces: fresh}, 0, 0, false},
		{"joined", Plan{Namespaces: Namespaces{Network: Namespace{Mode: NamespaceJoin}}, IDs: IDs{GID: uidmap.Map{span(0, 1<<20, 10)}}}, 0, 0, false},
		{"the spec's", Plan{Namespaces: fresh, IDs: IDs{GID: uidmap.Map{span(0, 1<<20, 10)}}, Sysctl: []Setting{{Name: "net.ipv4.ping_group_range", Value: "1 0"}}}, 0, 0, false},
	} {
		if first, last, ok := c.plan.PingGroups(); first != c.first || last != c.last || ok != c.ok {
			t.Errorf("%s: %d to %d, %v", c.name, first, last, ok)
		}
	}
}
