// SPDX-License-Identifier: Apache-2.0

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

// Make turns a spec into a plan, or returns a [ValidationError] that says which field
// cannot be honoured and what to do. It does not modify its input, and the same
// input gives the same plan.
func Make(in Input) (*Plan, error) {
	if in.Spec == nil {
		return nil, invalid("config.json", "", "the spec is missing", "")
	}
	s, err := clone(in.Spec)
	if err != nil {
		return nil, invalid("config.json", "", "it cannot be read: "+err.Error(), "it must follow runtime-spec 1.3")
	}
	in.Spec = s
	p := &Plan{Namespace: in.Namespace, ID: in.ID, Bundle: in.Bundle, OCIVersion: s.Version, Annotations: s.Annotations}
	if err := checkSpec(s); err != nil {
		return nil, err
	}
	set, warnings, err := readSettings(s.Process.Env, s.Annotations, in.Settings)
	if err != nil {
		return nil, err
	}
	p.Warnings = append(p.Warnings, warnings...)
	p.System, p.HonorCaps, p.LiftNoNewPrivs = set.SystemContainer, set.HonorCaps, set.LiftNoNewPrivs
	p.skipShift, p.skipField = set.SkipUIDShift, set.SkipField
	if isSandbox(s.Annotations) {
		p.System = false // it only holds the namespaces of the pod
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
	for _, step := range []func(Input, *Plan) error{makeProcessPlan, makeRootfs, hostnames, makeSysctl, makeMounts, makeCgroup} {
		if err := step(in, p); err != nil {
			return nil, err
		}
	}
	if err := checkListener(s.Linux.Seccomp, p); err != nil {
		return nil, err
	}
	if p.Systemd && p.Process.NoNewPrivs {
		p.warn("process.noNewPrivileges is true, so sudo, su and other setuid programs gain no privileges in this container; %s", noNewPrivsHint)
	}
	p.Seccomp, p.Hooks = s.Linux.Seccomp, s.Hooks
	if p.System && p.Seccomp != nil && in.WidenSeccomp != nil {
		p.Seccomp = in.WidenSeccomp(p.Seccomp)
	}
	return p, p.CheckIDs()
}

// noNewPrivsHint says how setuid programs of a system container get their privileges.
const noNewPrivsHint = "use ctr run --allow-new-privs (Docker: without --security-opt no-new-privileges; Kubernetes: allowPrivilegeEscalation: true) or set settings.no_new_privileges.default in the configuration"

// isSandbox recognises the container that holds the namespaces of a pod (pause) by the
// annotations of containerd and CRI-O. Trusting them is safe: such a container
// gets fewer privileges than others.
func isSandbox(annotations map[string]string) bool {
	return annotations["io.kubernetes.cri.container-type"] == "sandbox" ||
		annotations["io.kubernetes.cri-o.ContainerType"] == "sandbox"
}

// clone makes a deep copy: a plan never shares memory with the spec.
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

// checkSpec checks the fields that no later step checks.
func checkSpec(s *specs.Spec) error {
	major, rest, ok := strings.Cut(s.Version, ".")
	if !ok || major != "1" || rest == "" {
		return invalid("ociVersion", s.Version, "it must be a version 1 of the runtime spec", `use "1.3.0"`)
	}
	if s.Process == nil {
		return invalid("process", "", "the section is missing", "set process.args and process.cwd")
	}
	if s.Linux == nil {
		return invalid("linux", "", "the section is missing, so the container would have no namespaces", "set linux.namespaces")
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
			return invalid(other.field, "", "this runtime only supports Linux containers", "remove the section")
		}
	}
	l := s.Linux
	if l.IntelRdt != nil {
		return invalid("linux.intelRdt", "", "Intel RDT is not supported", "remove it")
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
				return invalid(field+".path", x.Path, "it must be an absolute path", "")
			}
			if x.Timeout != nil && *x.Timeout <= 0 {
				return invalid(field+".timeout", fmt.Sprint(*x.Timeout), "it must be above 0", "set a number of seconds or remove it")
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
	p.Warnings = append(p.Warnings, proc.Warnings...)
	proc.Warnings = nil
	p.Process = *proc
	return nil
}

func makeRootfs(in Input, p *Plan) error {
	r := in.Spec.Root
	if r == nil || r.Path == "" {
		return invalid("root.path", "", "it is empty", `set it, for example to "rootfs"`)
	}
	if err := checkString("root.path", r.Path, maxPath); err != nil {
		return err
	}
	p.Rootfs = Rootfs{Path: path.Clean(r.Path), Mounts: slices.Clone(in.RootfsMounts), Readonly: r.Readonly}
	if !path.IsAbs(p.Rootfs.Path) {
		p.Rootfs.Path = path.Join(in.Bundle, p.Rootfs.Path)
	}
	if p.Rootfs.Path == "/" {
		return invalid("root.path", r.Path, "it is the root of the host", "use a directory that only the container uses")
	}
	if label := in.Spec.Linux.MountLabel; label != "" && !in.Facts.SELinux {
		return invalid("linux.mountLabel", label, "SELinux is not enabled on this host", "enable it or remove the label")
	}
	if prop := in.Spec.Linux.RootfsPropagation; prop != "" {
		flag, ok := propagationOptions[prop]
		if !ok {
			return invalid("linux.rootfsPropagation", prop, "unknown value", "supported: "+strings.Join(sortedKeys(propagationOptions), ", "))
		}
		if flag&unix.MS_SHARED != 0 {
			return invalid("linux.rootfsPropagation", prop, notShared, "use rslave (Kubernetes: HostToContainer) or rprivate (None) instead of Bidirectional")
		}
		p.Rootfs.Propagation = flag
	}
	return nil
}

func hostnames(in Input, p *Plan) error {
	p.Hostname, p.Domainname = in.Spec.Hostname, in.Spec.Domainname
	for _, x := range [][2]string{{"hostname", p.Hostname}, {"domainname", p.Domainname}} {
		field, name := x[0], x[1]
		if len(name) > 64 { // __NEW_UTS_LEN
			return invalid(field, name, "the kernel accepts at most 64 bytes", "shorten it")
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
			p.warn("%s names %q, but the spec has no bind there", p.skipField, at)
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
		ownDev(&rule{name: "own-dev"}, in, p) // the default devices need a mount
	}
	if err := checkString("linux.mountLabel", in.Spec.Linux.MountLabel, maxPath); err != nil {
		return err
	}
	p.MountLabel = in.Spec.Linux.MountLabel
	labelMounts(p)
	return assignOwners(p)
}

// labelled are the file systems that SELinux lets a mount of a user namespace label as a
// whole. The root of an mqueue has the label of the process that mounts it; the policy labels
// proc, sysfs and cgroup; the label of the root comes with the mounts of Create, and a bind
// keeps the labels of its files.
var labelled = []string{"tmpfs", "ramfs", "devpts"}

// labelMounts adds the label to the file systems that are made for the container, unless their
// options have one.
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
			return nil, invalid(item(field, i), m, "it must be an absolute path below the root", "")
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
			p.Cgroup.Delegate = true // a writable cgroup mount must be usable
		}
	}
	return deviceRules(in, p.Cgroup.Resources, p)
}
