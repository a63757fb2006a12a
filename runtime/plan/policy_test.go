// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"encoding/json"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// What a plan must keep of the spec, written down a second time and otherwise than in
// the code: a plan that gives a container more than its spec, but for the list of a system
// container's rules, is weaker than the policy.

// hostDevices are some of the character devices that are the host.
var hostDevices = [][2]int64{
	{1, 1},
	{1, 2},
	{1, 4},
	{1, 11},
	{1, 12},
	{4, 0},
	{4, 1},
	{4, 63},
	{7, 0},
	{7, 128},
	{10, 130},
	{10, 144},
	{10, 231},
	{10, 234},
	{10, 235},
	{10, 236},
	{10, 237},
	{21, 0},
	{202, 0},
	{202, 7},
}

// mayLift are the masks that a system container does without, each with who needs it gone.
var mayLift = map[string]string{
	"/proc": "nested procfs", "/proc/sys": "sysctl of namespaces", "/proc/kcore": "nested procfs", "/proc/kallsyms": "nested procfs",
	"/proc/kmsg": "nested procfs", "/run": "systemd", "/tmp": "systemd",
}

// knownSettings is the closed list of variables; an annotation is io.sysbox.NAME.
var knownSettings = []string{"SYSCONT_MODE", "IGNORE_SYSFS_CHOWN", "ALLOW_TRUSTED_XATTR", "HONOR_CAPS", "SKIP_UID_SHIFT"}

func checkHonoured(t testing.TB, in Input, p *Plan) {
	t.Helper()
	s := in.Spec
	checkKeptIDs(t, in, p)
	checkKeptMounts(t, in, p)
	checkKeptDevices(t, p)
	checkKeptProcess(t, s.Process, &p.Process, p)
	checkSettings(t, s, p)
	if p.Rootfs.Readonly != s.Root.Readonly {
		t.Errorf("root.readonly is %v, the plan's %v", s.Root.Readonly, p.Rootfs.Readonly)
	}
	// Init shares the copy in its own mount namespace; the tree that it is a copy of is private.
	if p.Rootfs.Propagation&unix.MS_SHARED != 0 && (!p.Systemd || s.Linux.RootfsPropagation != "") {
		t.Error("the root is shared with the host")
	}
	if !sameJSON(p.Seccomp, s.Linux.Seccomp) || !sameJSON(p.Hooks, s.Hooks) {
		t.Error("the seccomp profile or the hooks are not the spec's")
	}
	want, got := specs.LinuxResources{}, *p.Cgroup.Resources
	if s.Linux.Resources != nil {
		want = *s.Linux.Resources
	}
	want.Devices, got.Devices = nil, nil
	if !sameJSON(want, got) || p.Cgroup.Path != s.Linux.CgroupsPath {
		t.Errorf("limits are %+v at %q, not the spec's", got, p.Cgroup.Path)
	}
	if len(p.NetDevices) != len(s.Linux.NetDevices) {
		t.Errorf("network devices are %v, the spec's %v", p.NetDevices, s.Linux.NetDevices)
	}
	for _, d := range p.NetDevices {
		given, ok := s.Linux.NetDevices[d.Host]
		if want := cmp.Or(given.Name, d.Host); !ok || d.Name != want || strings.Contains(d.Host+d.Name, "/") {
			t.Errorf("the network device %v is not the spec's %v", d, given)
		}
	}
	for given := range s.Linux.Sysctl {
		if len(p.Sysctl) != len(s.Linux.Sysctl) {
			t.Errorf("sysctl %q or another is not in the plan", given)
		}
	}
	for _, x := range p.Sysctl {
		file := x.ProcPath()
		shared := []string{"kernel/msg", "kernel/sem", "kernel/shm", "kernel/domainname", "net/", "fs/mqueue/"}
		if !slices.ContainsFunc(shared, func(dir string) bool { return strings.HasPrefix(file, dir) }) || path.Clean(file) != file {
			t.Errorf("sysctl %q is the host's: %s", x.Name, file)
		}
	}
	check := func(name string, kept, given []string, lift map[string]string) {
		for _, m := range given {
			if m = path.Clean(m); !slices.Contains(kept, m) && (!p.System || lift[m] == "") {
				t.Errorf("%s: %s was lifted", name, m)
			}
		}
	}
	check("maskedPaths", slices.Concat(p.Masked, p.InitMasked), s.Linux.MaskedPaths, mayLift)
	check("readonlyPaths", slices.Concat(p.Readonly, p.InitReadonly), s.Linux.ReadonlyPaths, mayLift)
}

func sameJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

func checkKeptIDs(t testing.TB, in Input, p *Plan) {
	t.Helper()
	l := in.Spec.Linux
	user := p.Namespaces.User
	switch p.IDs.Source {
	case IDsAllocate:
		if user.Mode != NamespaceNew || len(p.IDs.UID)+len(p.IDs.GID) != 0 || !p.IDs.ShiftRootfs || in.PodIDs {
			t.Errorf("ids of the pod's own: %+v with the user namespace %+v", p.IDs, user)
		}
	case IDsSpec:
		_, uid := p.IDs.UID.ToHost(0)
		_, gid := p.IDs.GID.ToHost(0)
		if user.Mode != NamespaceNew || p.IDs.UID.Check() != nil || p.IDs.GID.Check() != nil || !uid || !gid {
			t.Errorf("ids of the spec: %+v with the user namespace %+v", p.IDs, user)
		}
	case IDsJoin:
		if user.Mode != NamespaceJoin || user.Path == "" && (!in.PodIDs || len(p.IDs.UID) > 0) {
			t.Errorf("ids of a namespace: %+v with the user namespace %+v", p.IDs, user)
		}
	default:
		t.Errorf("ids come from %q", p.IDs.Source)
	}
	for _, m := range slices.Concat(p.IDs.UID, p.IDs.GID) {
		given := slices.ContainsFunc(slices.Concat(l.UIDMappings, l.GIDMappings), func(x specs.LinuxIDMapping) bool {
			return x.ContainerID == m.ContainerID && x.HostID == m.HostID && x.Size == m.Size
		})
		if !given || m.HostID == 0 && (!in.AllowHostRoot || p.System) {
			t.Errorf("the plan maps %+v, which the spec does not or must not", m)
		}
	}
	kinds := map[specs.LinuxNamespaceType]Namespace{
		"user": user, "pid": p.Namespaces.PID, "network": p.Namespaces.Network, "ipc": p.Namespaces.IPC,
		"uts": p.Namespaces.UTS, "cgroup": p.Namespaces.Cgroup, "time": p.Namespaces.Time,
	}
	given := map[specs.LinuxNamespaceType]bool{}
	for _, n := range l.Namespaces {
		given[n.Type] = true
		if have := kinds[n.Type]; n.Path != "" && have.Path != path.Clean(n.Path) || n.Path == "" && have.Mode == NamespaceHost {
			t.Errorf("the %s namespace is %+v, the spec's %q", n.Type, have, n.Path)
		}
	}
	for _, must := range []specs.LinuxNamespaceType{"pid", "network", "ipc", "uts", "mount"} {
		if !given[must] {
			t.Errorf("a plan was made without the %s namespace", must)
		}
	}
}

// lasting is which of two opposite options of a mount counts: the last.
func lasting(options []string, on, off string) bool {
	for _, o := range slices.Backward(options) {
		if o == on || o == off {
			return o == on
		}
	}
	return false
}

func checkKeptMounts(t testing.TB, in Input, p *Plan) {
	t.Helper()
	own := []string{"/dev", "/sys", "/proc"}
	for _, m := range p.Mounts {
		if under(m.Destination, "/dev/.sysbox") {
			t.Errorf("a mount at %s, which is the runtime's", m.Destination)
		}
		if under(m.Destination, "/proc") && m.Type != "proc" && m.Type != "binfmt_misc" && (m.Type != "bind" || strings.HasPrefix(m.Destination, "/proc/sys") || strings.Count(m.Destination, "/") > 3) {
			t.Errorf("%s is mounted at %s", m.Type, m.Destination)
		}
		if m.Origin == "kernel-files" { // for everybody to read: root of the container is nobody there
			if m.IDMap != IDMapNone || m.Set&unix.MOUNT_ATTR_RDONLY == 0 {
				t.Errorf("the bind at %s is more than for everybody to read", m.Destination)
			}
			continue
		}
		if m.Type == "bind" && m.IDMap == IDMapNone && p.IDs.ShiftRootfs && !slices.Contains(p.skipShift, m.Destination) {
			t.Errorf("the bind at %s has the host's ids, which nobody asked for", m.Destination)
		}
		if m.Destination == "/dev" && m.Type != "tmpfs" || m.Destination == "/sys" && m.Type != "sysfs" || m.Destination == "/proc" && m.Type != "proc" {
			t.Errorf("%s at %s", m.Type, m.Destination)
		}
	}
	if p.System {
		for _, at := range own {
			if m := find(t, p, at); m.Own || m.Set&unix.MOUNT_ATTR_NOSUID == 0 || m.Clear&^uint64(unix.MOUNT_ATTR__ATIME) != 0 {
				t.Errorf("%s is not locked: %+v", at, m)
			}
		}
	}
	next := 0 // the spec's mounts stay in their order
	for _, m := range in.Spec.Mounts {
		dest := path.Clean("/" + m.Destination)
		if p.System && (slices.Contains(own, dest) || under(dest, "/sys/fs/cgroup")) {
			continue
		}
		at := slices.IndexFunc(p.Mounts[next:], func(x Mount) bool { return x.Origin == "spec" && x.Destination == dest })
		if at < 0 {
			t.Errorf("the spec's mount at %s is not in the plan, or not in its place", dest)
			continue
		}
		next += at + 1
		have := p.Mounts[next-1]
		for _, o := range []struct {
			on, off string
			bit     uint64
		}{
			{"ro", "rw", unix.MOUNT_ATTR_RDONLY},
			{"nosuid", "suid", unix.MOUNT_ATTR_NOSUID},
			{"nodev", "dev", unix.MOUNT_ATTR_NODEV},
			{"noexec", "exec", unix.MOUNT_ATTR_NOEXEC},
			{"nosymfollow", "symfollow", unix.MOUNT_ATTR_NOSYMFOLLOW},
		} {
			want := lasting(m.Options, o.on, o.off)
			if want != ((have.Set|have.InitSet)&o.bit != 0) || want && have.Clear&o.bit != 0 {
				t.Errorf("mount at %s with %q: %s is %v in the plan: %+v", dest, m.Options, o.on, (have.Set|have.InitSet)&o.bit != 0, have)
			}
			if r := lasting(m.Options, "r"+o.on, "r"+o.off); r != (have.RecSet&o.bit != 0) || r && have.RecClear&o.bit != 0 {
				t.Errorf("mount at %s with %q: r%s is %v in the plan: %+v", dest, m.Options, o.on, have.RecSet&o.bit != 0, have)
			}
		}
		if have.Type == "bind" && have.Source != path.Clean(m.Source) && have.Source != path.Join(in.Bundle, m.Source) {
			t.Errorf("the bind of %q at %s is of %q", m.Source, dest, have.Source)
		}
	}
}

func checkKeptDevices(t testing.TB, p *Plan) {
	t.Helper()
	for _, d := range p.Devices {
		if d.Type != "c" && d.Type != "p" || d.Type == "c" && slices.Contains(hostDevices, [2]int64{int64(d.Major), int64(d.Minor)}) {
			t.Errorf("the host's device %+v is in the plan", d)
		}
		if d.Mode&^0o777 != 0 || d.Major >= 1<<12 || d.Minor >= 1<<20 {
			t.Errorf("device %+v", d)
		}
	}
	checkRules(t, p.Cgroup.Resources.Devices)
}

// checkRules: no rule allows to read or write what is the host.
func checkRules(t testing.TB, rules []specs.LinuxDeviceCgroup) {
	t.Helper()
	covers := func(n *int64, is int64) bool { return n == nil || *n < 0 || uint32(*n) == uint32(is) }
	for _, r := range rules {
		if !r.Allow || r.Access != "" && !strings.ContainsAny(r.Access, "rw") {
			continue
		}
		if r.Type != "c" {
			t.Errorf("rule %+v allows disks", r)
		}
		for _, d := range hostDevices {
			if covers(r.Major, d[0]) && covers(r.Minor, d[1]) {
				t.Errorf("a rule allows the host's device %v: %+v", d, r)
			}
		}
	}
}

func checkKeptProcess(t testing.TB, given *specs.Process, p *Process, c *Plan) {
	t.Helper()
	if p.NoNewPrivs != given.NoNewPrivileges || p.UID != given.User.UID || p.GID != given.User.GID || !slices.Equal(p.AdditionalGIDs, given.User.AdditionalGids) {
		t.Errorf("no_new_privs or the user is not the spec's: %+v", p)
	}
	if len(p.Rlimits) != len(given.Rlimits) {
		t.Errorf("%d rlimits of %d", len(p.Rlimits), len(given.Rlimits))
	}
	init := &c.Process
	if p == init {
		init = &Process{}
	}
	if want := cmp.Or(given.ApparmorProfile, init.AppArmorProfile); p.AppArmorProfile != want && want != "unconfined" || p.SELinuxLabel != cmp.Or(given.SelinuxLabel, init.SELinuxLabel) {
		t.Errorf("labels %q, %q are not the spec's", p.AppArmorProfile, p.SELinuxLabel)
	}
	var warnings []string
	asked := specs.LinuxCapabilities{}
	if given.Capabilities != nil {
		asked = *given.Capabilities
	}
	set := func(names []string) uint64 { return parseCaps("", names, 63, &warnings) }
	beyond := func(name string, have uint64, may []string) {
		if extra := have &^ set(may); extra != 0 {
			t.Errorf("%s has %s, which the spec does not", name, capNames(extra))
		}
	}
	beyond("inheritable", p.Caps.Inheritable, asked.Inheritable)
	beyond("ambient", p.Caps.Ambient, asked.Ambient)
	whole := c.System && !c.HonorCaps
	if !whole {
		beyond("bounding", p.Caps.Bounding, asked.Bounding)
	}
	if !whole || p.UID != 0 {
		beyond("permitted", p.Caps.Permitted, asked.Permitted)
		beyond("effective", p.Caps.Effective, asked.Effective)
	}
}

// checkSettings: a plan is made of known settings only, and they do what they say.
func checkSettings(t testing.TB, s *specs.Spec, p *Plan) {
	t.Helper()
	value := map[string]string{} // by NAME
	for _, e := range s.Process.Env {
		if name, ok := strings.CutPrefix(e, "SYSBOX_"); ok {
			name, v, _ := strings.Cut(name, "=")
			if delete(value, name); v != "" {
				value[name] = v
			}
		}
	}
	if v, ok := value["SKIP_UID_SHIFT"]; ok {
		if _, also := s.Annotations["io.sysbox.skip-uid-shift"]; !also {
			t.Errorf("SKIP_UID_SHIFT=%s was taken from the environment", v)
		}
	}
	for k, v := range s.Annotations {
		if name, ok := strings.CutPrefix(k, "io.sysbox."); ok {
			if name != strings.ToLower(name) {
				t.Errorf("annotation %q was taken", k)
			}
			value[strings.ToUpper(strings.ReplaceAll(name, "-", "_"))] = v
		}
	}
	is := func(name string, otherwise bool) bool {
		v, ok := value[name]
		if !ok {
			return otherwise
		}
		if !strings.EqualFold(v, "true") && !strings.EqualFold(v, "false") {
			t.Errorf("%s=%q was taken", name, v)
		}
		return strings.EqualFold(v, "true")
	}
	for name := range value {
		if !slices.Contains(knownSettings, name) {
			t.Errorf("a plan was made with the unknown setting %q", name)
		}
	}
	if p.System && (!is("SYSCONT_MODE", true) || isSandbox(s.Annotations)) || !p.System && is("SYSCONT_MODE", true) && !isSandbox(s.Annotations) {
		t.Errorf("a system container: %v, settings %q", p.System, value)
	}
	if p.HonorCaps != is("HONOR_CAPS", false) {
		t.Errorf("the spec's capabilities count: %v, settings %q", p.HonorCaps, value)
	}
	for _, at := range p.skipShift {
		if !path.IsAbs(at) || path.Clean(at) != at || !strings.Contains(value["SKIP_UID_SHIFT"], "/") {
			t.Errorf("ids are not shifted at %q, settings %q", at, value)
		}
	}
}
