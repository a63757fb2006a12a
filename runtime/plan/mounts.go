// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// fsTypes are the file systems that a container may have, and whether its init
// mounts them itself. It does so where a user namespace may mount the file system
// anyway, so locking would protect nothing. For the others the kernel would return
// EPERM to the container, so the host must not mount them for it.
var fsTypes = map[string]struct{ own bool }{
	"proc":        {},
	"sysfs":       {},
	"tmpfs":       {own: true},
	"ramfs":       {own: true},
	"devpts":      {own: true},
	"mqueue":      {own: true},
	"cgroup":      {own: true},
	"cgroup2":     {own: true},
	"bpf":         {own: true},
	"binfmt_misc": {own: true},
}

// procFiles are the files of /proc that a bind may replace: those that resource
// views (LXCFS) serve. Other binds could redirect what this runtime or programs of
// the container write to /proc (CVE-2019-16884, CVE-2019-19921).
var procFiles = []string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/slabinfo",
	"/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory",
}

const notShared = "mounts cannot propagate from the user namespace of the container to the host"

func under(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

func underAny(p string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return under(p, d) })
}

// specMounts returns the mounts of the spec, checked and in order.
func specMounts(in Input, p *Plan) ([]Mount, error) {
	var out []Mount
	for i, m := range in.Spec.Mounts {
		x, err := specMount(item("mounts", i), m, in, p)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

func specMount(field string, m specs.Mount, in Input, p *Plan) (Mount, error) {
	out := Mount{Origin: "spec"}
	if err := checkString(field+".destination", m.Destination, maxPath); err != nil {
		return out, err
	}
	if m.Destination == "" {
		return out, invalid(field+".destination", "", "it is empty", "use an absolute path")
	}
	out.Destination = path.Clean("/" + m.Destination)
	if !path.IsAbs(m.Destination) {
		p.warn("%s.destination %q is relative to the root: using %s", field, m.Destination, out.Destination)
	}
	if out.Destination == "/" {
		return out, invalid(field+".destination", m.Destination, "a mount cannot cover the root of the container", "use root.path")
	}
	if under(out.Destination, hidden) {
		return out, invalid(field+".destination", m.Destination, "the runtime uses this path", "choose another path")
	}
	o, err := parseOptions(field, m.Options)
	if err != nil {
		return out, err
	}
	out.Type = m.Type
	if o.bind || m.Type == "bind" {
		out.Type = "bind"
	}
	out.Set, out.Clear, out.RecSet, out.RecClear = o.set, o.clear, o.recSet, o.recClear
	out.Propagation, out.CopyUp, out.Recursive, out.Links = o.propagation, o.copyUp, o.recursive, o.links
	if err := mountIDs(field, m, o, in, &out); err != nil {
		return out, err
	}
	if out.Propagation&unix.MS_SHARED != 0 {
		return out, invalid(field+".options", o.shared, notShared, "use rslave (Kubernetes: HostToContainer) or rprivate (None) instead of Bidirectional")
	}
	if out.Type == "bind" {
		return out, bindMount(field, m, o, in, p, &out)
	}
	return out, fsMount(field, m, o, in, &out)
}

// mountIDs decides how the ids of a mount are shifted.
func mountIDs(field string, m specs.Mount, o options, in Input, out *Mount) error {
	out.IDMap, out.UID, out.GID = o.idmap, o.uid, o.gid
	if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		if len(m.UIDMappings) == 0 || len(m.GIDMappings) == 0 {
			return invalid(field+".uidMappings and gidMappings", "", "only one of the two is set", "set both or neither")
		}
		if o.uid != nil {
			return invalid(field+".options", "idmap=", "the mount also has uidMappings", "set the mapping only once")
		}
		var err error
		if out.UID, err = idMap(field+".uidMappings", m.UIDMappings); err != nil {
			return err
		}
		if out.GID, err = idMap(field+".gidMappings", m.GIDMappings); err != nil {
			return err
		}
		if out.IDMap == IDMapNone {
			out.IDMap = IDMapExplicit // runtime-spec: mappings imply idmap
		}
	}
	if out.IDMap != IDMapNone && out.Type != "bind" {
		return invalid(field, out.Type, "only binds support id mappings", "remove idmap and the mappings of the mount")
	}
	if out.IDMap == IDMapExplicit && out.UID == nil {
		out.IDMap = IDMapContainer // runtime-spec: the mapping of the container is the default
	}
	if out.IDMap == IDMapExplicitRecursive && out.UID == nil {
		out.IDMap, out.Recursive = IDMapContainer, true
	}
	return nil
}

func bindMount(field string, m specs.Mount, o options, in Input, p *Plan, out *Mount) error {
	if err := checkString(field+".source", m.Source, maxPath); err != nil {
		return err
	}
	if m.Source == "" {
		return invalid(field+".source", "", "a bind needs a source", "set a path on the host")
	}
	out.Source = path.Clean(m.Source)
	if !path.IsAbs(out.Source) {
		out.Source = path.Join(in.Bundle, out.Source)
	}
	if extra := append(o.superblock, o.data...); len(extra) > 0 {
		return invalid(field+".options", extra[0], "it is not a bind option, and a bind cannot change the options of the file system that it shows", "check its spelling or remove it")
	}
	if o.copyUp {
		return invalid(field+".options", "tmpcopyup", "it only applies to tmpfs", "remove it")
	}
	if underAny(out.Destination, "/proc") && !slices.Contains(procFiles, out.Destination) {
		return invalid(field+".destination", m.Destination, "only resource views can be bound over files of /proc", "supported: "+strings.Join(procFiles, ", "))
	}
	if out.Destination == "/dev" || out.Destination == "/sys" {
		return invalid(field+".destination", m.Destination, "the container has its own "+out.Destination, "remove the mount or bind single files below it")
	}
	if out.IDMap == IDMapNone && p.IDs.ShiftRootfs && !p.skipsShift(out.Destination) {
		out.IDMap = IDMapContainer
	}
	return nil
}

func fsMount(field string, m specs.Mount, o options, in Input, out *Mount) error {
	fs, ok := fsTypes[m.Type]
	if !ok {
		if m.Type == "" {
			return invalid(field+".type", "", "it is empty, and the options do not include bind", "set a type, or the option bind or rbind")
		}
		return invalid(field+".type", m.Type, "it cannot be mounted in a user namespace", "mount it on the host and bind it; supported: bind, "+strings.Join(sortedKeys(fsTypes), ", "))
	}
	if err := checkString(field+".source", m.Source, maxPath); err != nil {
		return err
	}
	out.Source, out.Own = m.Source, fs.own
	out.Data = append(o.superblock, o.data...)
	// A new file system is a single mount, so recursive options equal plain ones.
	out.Set, out.Clear = out.Set&^out.RecClear|out.RecSet, out.Clear&^(out.RecSet&^unix.MOUNT_ATTR__ATIME)|out.RecClear
	out.RecSet, out.RecClear = 0, 0
	if out.Propagation&unix.MS_UNBINDABLE != 0 {
		return invalid(field+".options", "unbindable", "it only applies to binds", "remove it")
	}
	if o.recursive {
		return invalid(field+".options", "rbind", "it only applies to binds", "remove it")
	}
	if o.links != (Links{}) {
		return invalid(field+".options", strings.Join(m.Options, ","), "copy-symlink, src-nofollow and dest-nofollow only apply to binds", "remove them")
	}
	if o.copyUp {
		if m.Type != "tmpfs" {
			return invalid(field+".options", "tmpcopyup", "it only applies to tmpfs", "remove it")
		}
		out.Own = false // the host side reads the files of the image
	}
	if under(out.Destination, "/proc") && !(m.Type == "proc" && out.Destination == "/proc") && !(m.Type == "binfmt_misc" && out.Destination == binfmtMisc) {
		return invalid(field+".destination", m.Destination, "only proc itself can be mounted there", "choose another path")
	}
	for _, place := range []struct{ dir, typ string }{{"/dev", "tmpfs"}, {"/sys", "sysfs"}} {
		if out.Destination == place.dir && m.Type != place.typ {
			return invalid(field, m.Type+" at "+place.dir, "there must be "+place.typ, "remove the mount")
		}
	}
	if out.Destination == "/dev" {
		if o.copyUp {
			return invalid(field+".options", "tmpcopyup", "the files that the image has in /dev must not be copied", "remove it")
		}
		out.Own = false
	}
	if m.Type == "cgroup" || m.Type == "cgroup2" {
		return cgroupMount(field, in.Facts, out)
	}
	return nil
}

// cgroupMount resolves the type: "cgroup" means the version of the host, and
// callers also write it for version 2.
func cgroupMount(field string, f Facts, out *Mount) error {
	if out.Type == "cgroup2" && !f.Cgroup2 {
		return invalid(field+".type", out.Type, "this host has no cgroup version 2", `use "cgroup", which means the version of the host`)
	}
	if f.Cgroup2 {
		out.Type = "cgroup2"
	}
	out.Source, out.Data = "cgroup", nil
	return nil
}

// aliases are links of today's distributions. A plan cannot look into the image,
// but must not let a tmpfs on /run hide what is bound at /var/run/secrets. In an
// image without the link the order does no harm.
var aliases = [][2]string{
	{"/var/run", "/run"},
	{"/var/lock", "/run/lock"},
	{"/lib", "/usr/lib"},
	{"/bin", "/usr/bin"},
	{"/sbin", "/usr/sbin"},
}

// canonical returns where a path of the container most likely leads.
func canonical(p string) string {
	for _, a := range aliases {
		if under(p, a[0]) {
			return a[1] + p[len(a[0]):]
		}
	}
	return p
}

// covers reports whether a mount at dir hides p.
func covers(dir, p string) bool { return under(canonical(p), canonical(dir)) }

// assignOwners decides whether the host side or init makes each mount. The host
// side makes its mounts and masks first, so a mount of init would hide those below
// it: the host side makes such a tmpfs, too, and other types are rejected.
func assignOwners(p *Plan) error {
	for i := len(p.Mounts) - 1; i >= 0; i-- {
		m := &p.Mounts[i]
		if !m.Own {
			continue
		}
		field, below := p.hostMadeBelow(i)
		if below == "" {
			continue
		}
		if m.Type != "tmpfs" {
			return invalid(field, below, fmt.Sprintf("it lies below %s (%s), which the container mounts itself", m.Destination, m.Type), "choose another path")
		}
		m.byHost()
	}
	return nil
}

// byHost moves a mount from init to the host side. The kernel locks the attributes that the host
// side sets, and a bind of a directory there could only be remounted with all of them named. So
// init sets the attributes that no file there depends on.
func (m *Mount) byHost() {
	const attrs = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	m.Own, m.InitSet, m.Set = false, m.Set&attrs, m.Set&^attrs
}

// ByHost moves the mounts of a file system from init to the host side. The kernel then locks
// them like the others.
func (p *Plan) ByHost(fstype string) error {
	for i := range p.Mounts {
		if p.Mounts[i].Type == fstype {
			p.Mounts[i].byHost()
		}
	}
	return assignOwners(p)
}

// hostMadeBelow finds something that the host makes after mount i at its mount
// point or below it.
func (p *Plan) hostMadeBelow(i int) (field, dest string) {
	m := p.Mounts[i]
	for _, x := range p.Mounts[i+1:] {
		if !x.Own && covers(m.Destination, x.Destination) {
			return "mounts", x.Destination
		}
	}
	for _, x := range p.Masked {
		if covers(m.Destination, x) {
			return "linux.maskedPaths", x
		}
	}
	for _, x := range p.Readonly {
		if covers(m.Destination, x) {
			return "linux.readonlyPaths", x
		}
	}
	return "", ""
}

func (p *Plan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

func (p *Plan) skipsShift(destination string) bool {
	return slices.Contains(p.skipShift, destination)
}
