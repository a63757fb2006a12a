package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Make turns a spec into a plan, or answers a [Refusal] that says which of its
// fields cannot be honoured and what to do. It changes nothing that in points
// to, and the same input gives the same plan.
func Make(in Input) (*Plan, error) {
	if in.Spec == nil {
		return nil, refuse("config.json", "", "there is no spec", "give one")
	}
	s, err := clone(in.Spec)
	if err != nil {
		return nil, refuse("config.json", "", "it cannot be read: "+err.Error(), "give a spec of runtime-spec 1.3")
	}
	in.Spec = s
	p := &Plan{Namespace: in.Namespace, ID: in.ID, Bundle: in.Bundle, OCIVersion: s.Version, Annotations: s.Annotations}
	if err := checkSpec(s); err != nil {
		return nil, err
	}
	set, notes, err := readSettings(s.Process.Env, s.Annotations, in.Settings)
	if err != nil {
		return nil, err
	}
	p.Notes = append(p.Notes, notes...)
	p.System, p.HonorCaps, p.LiftNoNewPrivs = set.SystemContainer, set.HonorCaps, set.LiftNoNewPrivs
	p.skipShift, p.skipField = set.SkipUIDShift, set.SkipField
	if isSandbox(s.Annotations) {
		p.System = false // it only holds namespaces
	}

	if err := makeNamespaces(s.Linux, p); err != nil {
		return nil, err
	}
	if p.NetDevices, err = netDevices(s.Linux.NetDevices); err != nil {
		return nil, err
	}
	if err := makeIDs(s.Linux, in, p); err != nil {
		return nil, err
	}
	p.Systemd = p.System && len(s.Process.Args) > 0 && slices.Contains(systemdPaths, s.Process.Args[0])
	for _, step := range []func(Input, *Plan) error{makeProcessPlan, makeRootfs, makeNames, makeSysctl, makeMounts, makeCgroup} {
		if err := step(in, p); err != nil {
			return nil, err
		}
	}
	if err := checkListener(s.Linux.Seccomp, p); err != nil {
		return nil, err
	}
	if p.Systemd && p.Process.NoNewPrivs {
		p.note("process.noNewPrivileges is true, so that sudo, su and other setuid programs get no rights in this container; %s", noNewPrivsWayOut)
	}
	p.Seccomp, p.Hooks = s.Linux.Seccomp, s.Hooks
	if p.System && p.Seccomp != nil && in.WidenSeccomp != nil {
		p.Seccomp = in.WidenSeccomp(p.Seccomp)
	}
	return p, p.CheckIDs()
}

// noNewPrivsWayOut says how setuid programs of a system container get their rights.
const noNewPrivsWayOut = "give ctr run --allow-new-privs (Docker: leave out --security-opt no-new-privileges; Kubernetes: allowPrivilegeEscalation: true), or have the administrator set settings.no_new_privileges.default"

// isSandbox tells the container that holds a pod's namespaces (pause) by the
// annotations of containerd and CRI-O. Believing them is safe: such a container
// gets less than others.
func isSandbox(annotations map[string]string) bool {
	return annotations["io.kubernetes.cri.container-type"] == "sandbox" ||
		annotations["io.kubernetes.cri-o.ContainerType"] == "sandbox"
}

// clone is a deep copy: a plan never shares memory with the spec.
func clone(s *specs.Spec) (*specs.Spec, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var out specs.Spec
	return &out, json.Unmarshal(b, &out)
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}

// checkSpec refuses what no later step looks at.
func checkSpec(s *specs.Spec) error {
	major, rest, ok := strings.Cut(s.Version, ".")
	if !ok || major != "1" || rest == "" {
		return refuse("ociVersion", s.Version, "it is not a version 1 of the runtime spec", `give "1.3.0"`)
	}
	if s.Process == nil {
		return refuse("process", "", "there is none, so there is nothing to run", "give process.args and process.cwd")
	}
	if s.Linux == nil {
		return refuse("linux", "", "there is no such section, so the container would have no namespaces", "give linux.namespaces")
	}
	for _, other := range []struct {
		field string
		given bool
	}{
		{"solaris", s.Solaris != nil},
		{"windows", s.Windows != nil},
		{"vm", s.VM != nil},
		{"zos", s.ZOS != nil},
		{"freebsd", s.FreeBSD != nil},
	} {
		if other.given {
			return refuse(other.field, "", "this runtime makes Linux containers", "remove the section")
		}
	}
	l := s.Linux
	if l.IntelRdt != nil {
		return refuse("linux.intelRdt", "", "Intel RDT is not supported", "remove it")
	}
	return checkHooks(s.Hooks)
}

func checkHooks(h *specs.Hooks) error {
	if h == nil {
		return nil
	}
	for _, kind := range []struct {
		name string
		list []specs.Hook
	}{
		{"prestart", h.Prestart}, //nolint:staticcheck // Docker and others still use it
		{"createRuntime", h.CreateRuntime},
		{"createContainer", h.CreateContainer},
		{"startContainer", h.StartContainer},
		{"poststart", h.Poststart},
		{"poststop", h.Poststop},
	} {
		for i, x := range kind.list {
			field := item("hooks."+kind.name, i)
			if !path.IsAbs(x.Path) {
				return refuse(field+".path", x.Path, "it is not an absolute path", "give one")
			}
			if x.Timeout != nil && *x.Timeout <= 0 {
				return refuse(field+".timeout", fmt.Sprint(*x.Timeout), "it is not above 0", "give seconds, or leave it out")
			}
			for _, v := range append(append([]string{x.Path}, x.Args...), x.Env...) {
				if err := checkString(field, v, maxArg); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func makeProcessPlan(in Input, p *Plan) error {
	var err error
	if p.Process.Personality, err = personality(in.Spec.Linux.Personality); err != nil {
		return err
	}
	if p.Process.MemoryPolicy, err = memoryPolicy(in.Spec.Linux.MemoryPolicy); err != nil {
		return err
	}
	proc, err := MakeProcess(in.Spec.Process, in.Terminal, p, in.Facts)
	if err != nil {
		return err
	}
	// runtime-spec 1.3: execCPUAffinity is not for init.
	p.ExecCPUs, proc.CPUs = proc.CPUs, ExecCPUs{}
	p.Notes = append(p.Notes, proc.Notes...)
	proc.Notes = nil
	p.Process = *proc
	return nil
}

func makeRootfs(in Input, p *Plan) error {
	r := in.Spec.Root
	if r == nil || r.Path == "" {
		return refuse("root.path", "", "there is none", `give one, "rootfs" for instance`)
	}
	if err := checkString("root.path", r.Path, maxPath); err != nil {
		return err
	}
	p.Rootfs = Rootfs{Path: path.Clean(r.Path), Mounts: slices.Clone(in.RootfsMounts), Readonly: r.Readonly}
	if !path.IsAbs(p.Rootfs.Path) {
		p.Rootfs.Path = path.Join(in.Bundle, p.Rootfs.Path)
	}
	if p.Rootfs.Path == "/" {
		return refuse("root.path", r.Path, "it is the host's own root", "give the container a root of its own")
	}
	if label := in.Spec.Linux.MountLabel; label != "" && !in.Facts.SELinux {
		return refuse("linux.mountLabel", label, "SELinux is not enabled on this host", "enable it, or leave the label out")
	}
	if prop := in.Spec.Linux.RootfsPropagation; prop != "" {
		flag, ok := propagationOptions[prop]
		if !ok {
			return refuse("linux.rootfsPropagation", prop, "it is not known", "known are "+strings.Join(sortedKeys(propagationOptions), ", "))
		}
		if flag&unix.MS_SHARED != 0 {
			return refuse("linux.rootfsPropagation", prop, notShared, "use rslave (Kubernetes: HostToContainer) or rprivate (None) instead of Bidirectional")
		}
		p.Rootfs.Propagation = flag
	}
	return nil
}

func makeNames(in Input, p *Plan) error {
	p.Hostname, p.Domainname = in.Spec.Hostname, in.Spec.Domainname
	for _, x := range [][2]string{{"hostname", p.Hostname}, {"domainname", p.Domainname}} {
		field, name := x[0], x[1]
		if len(name) > 64 { // __NEW_UTS_LEN
			return refuse(field, name, "the kernel takes at most 64 bytes", "shorten it")
		}
		if err := noNUL(field, name); err != nil {
			return err
		}
	}
	return nil
}

func makeMounts(in Input, p *Plan) error {
	var err error
	if p.Mounts, err = specMounts(in, p); err != nil {
		return err
	}
	for _, at := range p.skipShift {
		if p.skipField != "" && !slices.ContainsFunc(p.Mounts, func(m Mount) bool { return m.Type == "bind" && m.Destination == at }) {
			p.note("%s has %q, where the spec mounts no bind", p.skipField, at)
		}
	}
	if err := makeDevices(in, p); err != nil {
		return err
	}
	if p.Masked, err = maskPaths("linux.maskedPaths", in.Spec.Linux.MaskedPaths); err != nil {
		return err
	}
	if p.Readonly, err = maskPaths("linux.readonlyPaths", in.Spec.Linux.ReadonlyPaths); err != nil {
		return err
	}
	if p.System {
		for i := range systemRules {
			systemRules[i].apply(&systemRules[i], in, p)
		}
	} else if !slices.ContainsFunc(p.Mounts, func(m Mount) bool { return m.Destination == "/dev" }) {
		ownDev(&rule{name: "own-dev"}, in, p) // the default devices need a place
	}
	if err := checkString("linux.mountLabel", in.Spec.Linux.MountLabel, maxPath); err != nil {
		return err
	}
	p.MountLabel = in.Spec.Linux.MountLabel
	labelMounts(p)
	return settleOwners(p)
}

// labelled are the file systems whose files SELinux lets a user namespace's mount
// label as a whole. An mqueue's root is labelled by who has mounted it; proc, sysfs and
// cgroup have labels by the policy; the root's comes with the mounts that Create is given,
// and a bind shows its files with their own.
var labelled = []string{"tmpfs", "ramfs", "devpts"}

// labelMounts gives the label to the file systems that are made for the container, but for
// those whose options have one.
func labelMounts(p *Plan) {
	for i, m := range p.Mounts {
		own := false
		for j, d := range m.Data {
			if plain, ok := ContextOption(d); ok {
				m.Data[j], own = plain, true
			}
		}
		if p.MountLabel != "" && slices.Contains(labelled, m.Type) && !own {
			p.Mounts[i].Data = append(slices.Clip(m.Data), "context="+p.MountLabel)
		}
	}
}

func maskPaths(field string, list []string) ([]string, error) {
	var out []string
	for i, m := range list {
		if err := checkString(item(field, i), m, maxPath); err != nil {
			return nil, err
		}
		c := path.Clean(m)
		if !path.IsAbs(m) || c == "/" {
			return nil, refuse(item(field, i), m, "it is not an absolute path below the root", "give one")
		}
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

func makeCgroup(in Input, p *Plan) error {
	l := in.Spec.Linux
	if err := checkString("linux.cgroupsPath", l.CgroupsPath, maxPath); err != nil {
		return err
	}
	p.Cgroup.Path, p.Cgroup.Resources = l.CgroupsPath, l.Resources
	if p.Cgroup.Resources == nil {
		p.Cgroup.Resources = &specs.LinuxResources{}
	}
	for _, m := range p.Mounts {
		if (m.Type == "cgroup" || m.Type == "cgroup2") && m.Set&unix.MOUNT_ATTR_RDONLY == 0 {
			p.Cgroup.Delegate = true // a tree that is mounted writable is for use
		}
	}
	return deviceRules(in, p.Cgroup.Resources, p)
}
