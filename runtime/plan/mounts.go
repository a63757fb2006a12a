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
// mounts them itself: those are what a user namespace may mount anyway, so
// there is nothing to lock. Of the others the kernel would answer EPERM to the
// container, and the host must not mount for it what it could not.
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
// views (LXCFS) serve. Anything else there could redirect what this runtime or
// the container's programs write to /proc (CVE-2019-16884, CVE-2019-19921).
var procFiles = []string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/slabinfo",
	"/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory",
}

const notShared = "mounts made in the container cannot appear on the host across user namespaces"

func under(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

func underAny(p string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return under(p, d) })
}

// specMounts are the spec's mounts, checked and in their order.
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
		return out, refuse(field+".destination", "", "it is empty", "give an absolute path")
	}
	out.Destination = path.Clean("/" + m.Destination)
	if !path.IsAbs(m.Destination) {
		p.note("%s.destination %q taken as %s: relative paths start at the root", field, m.Destination, out.Destination)
	}
	if out.Destination == "/" {
		return out, refuse(field+".destination", m.Destination, "nothing can be mounted over the container's root", "use root.path")
	}
	if under(out.Destination, hidden) {
		return out, refuse(field+".destination", m.Destination, "this path belongs to the runtime", "choose another")
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
		return out, refuse(field+".options", o.shared, notShared, "use rslave (Kubernetes: HostToContainer) or rprivate (None) instead of Bidirectional")
	}
	if out.Type == "bind" {
		return out, bindMount(field, m, o, in, p, &out)
	}
	return out, fsMount(field, m, o, in, &out)
}

// mountIDs decides how a mount's ids are shifted.
func mountIDs(field string, m specs.Mount, o options, in Input, out *Mount) error {
	out.IDMap, out.UID, out.GID = o.idmap, o.uid, o.gid
	if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		if len(m.UIDMappings) == 0 || len(m.GIDMappings) == 0 {
			return refuse(field+".uidMappings and gidMappings", "", "one is given without the other", "give both or none")
		}
		if o.uid != nil {
			return refuse(field+".options", "idmap=", "the mount has uidMappings too", "give the mapping once")
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
		return refuse(field, out.Type, "ids can be mapped for binds only", "remove idmap and the mount's mappings")
	}
	if out.IDMap == IDMapExplicit && out.UID == nil {
		out.IDMap = IDMapContainer // runtime-spec: by default the container's mapping
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
		return refuse(field+".source", "", "a bind needs a source", "give a path on the host")
	}
	out.Source = path.Clean(m.Source)
	if !path.IsAbs(out.Source) {
		out.Source = path.Join(in.Bundle, out.Source)
	}
	if extra := append(o.superblock, o.data...); len(extra) > 0 {
		return refuse(field+".options", extra[0], "it is no option of a bind, which cannot change those of the file system it shows", "check its spelling, or leave it out")
	}
	if o.copyUp {
		return refuse(field+".options", "tmpcopyup", "it is for tmpfs", "remove it")
	}
	if underAny(out.Destination, "/proc") && !slices.Contains(procFiles, out.Destination) {
		return refuse(field+".destination", m.Destination, "only resource views can be bound over files of /proc", "allowed are "+strings.Join(procFiles, ", "))
	}
	if out.Destination == "/dev" || out.Destination == "/sys" {
		return refuse(field+".destination", m.Destination, "the container has its own "+out.Destination, "leave the mount out, or bind single files below it")
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
			return refuse(field+".type", "", "it is empty, and the options have no bind", "give a type, or bind or rbind")
		}
		return refuse(field+".type", m.Type, "a user namespace cannot mount it", "mount it on the host and bind it; possible here are bind, "+strings.Join(sortedKeys(fsTypes), ", "))
	}
	if err := checkString(field+".source", m.Source, maxPath); err != nil {
		return err
	}
	out.Source, out.Own = m.Source, fs.own
	out.Data = append(o.superblock, o.data...)
	// A new file system is one mount, so that recursive options are plain ones.
	out.Set, out.Clear = out.Set&^out.RecClear|out.RecSet, out.Clear&^(out.RecSet&^unix.MOUNT_ATTR__ATIME)|out.RecClear
	out.RecSet, out.RecClear = 0, 0
	if out.Propagation&unix.MS_UNBINDABLE != 0 {
		return refuse(field+".options", "unbindable", "it is for binds", "remove it")
	}
	if o.recursive {
		return refuse(field+".options", "rbind", "it is for binds", "remove it")
	}
	if o.links != (Links{}) {
		return refuse(field+".options", strings.Join(m.Options, ","), "copy-symlink, src-nofollow and dest-nofollow are for binds", "remove them")
	}
	if o.copyUp {
		if m.Type != "tmpfs" {
			return refuse(field+".options", "tmpcopyup", "it is for tmpfs", "remove it")
		}
		out.Own = false // the image's files are read by the host's side
	}
	if under(out.Destination, "/proc") && !(m.Type == "proc" && out.Destination == "/proc") && !(m.Type == "binfmt_misc" && out.Destination == binfmtMisc) {
		return refuse(field+".destination", m.Destination, "nothing can be mounted there but proc itself", "choose another place")
	}
	for _, place := range []struct{ dir, typ string }{{"/dev", "tmpfs"}, {"/sys", "sysfs"}} {
		if out.Destination == place.dir && m.Type != place.typ {
			return refuse(field, m.Type+" at "+place.dir, "there must be "+place.typ, "leave the mount out")
		}
	}
	if out.Destination == "/dev" {
		if o.copyUp {
			return refuse(field+".options", "tmpcopyup", "what the image has in /dev is not for use", "remove it")
		}
		out.Own = false
	}
	if m.Type == "cgroup" || m.Type == "cgroup2" {
		return cgroupMount(field, in.Facts, out)
	}
	return nil
}

// cgroupMount settles which tree is meant: "cgroup" is whatever the host has,
// as callers write it for version 2 as well.
func cgroupMount(field string, f Facts, out *Mount) error {
	if out.Type == "cgroup2" && !f.Cgroup2 {
		return refuse(field+".type", out.Type, "this host has no cgroup version 2", `use "cgroup", which is whatever the host has`)
	}
	if f.Cgroup2 {
		out.Type = "cgroup2"
	}
	out.Source, out.Data = "cgroup", nil
	return nil
}

// aliases are the links of today's distributions. A plan cannot look into the
// image, but must not let a tmpfs on /run hide what is bound at
// /var/run/secrets: in an image without the link the order does no harm.
var aliases = [][2]string{
	{"/var/run", "/run"},
	{"/var/lock", "/run/lock"},
	{"/lib", "/usr/lib"},
	{"/bin", "/usr/bin"},
	{"/sbin", "/usr/sbin"},
}

// canonical is where a path of the container most likely leads.
func canonical(p string) string {
	for _, a := range aliases {
		if under(p, a[0]) {
			return a[1] + p[len(a[0]):]
		}
	}
	return p
}

// covers tells whether a mount at dir hides or holds what lies at p.
func covers(dir, p string) bool { return under(canonical(p), canonical(dir)) }

// settleOwners decides who makes each mount. The host's side makes its mounts
// and masks first, so one of init's own would hide what the host has made below
// it: such a tmpfs is the host's too, and others are refused.
func settleOwners(p *Plan) error {
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
			return refuse(field, below, fmt.Sprintf("it lies below %s (%s), which the container mounts itself", m.Destination, m.Type), "choose another path")
		}
		m.Own = false
	}
	return nil
}

// ByHost gives the mounts of a file system that init would make itself to the host's side: the
// kernel then locks them, as the others.
func (p *Plan) ByHost(fstype string) error {
	for i := range p.Mounts {
		if p.Mounts[i].Type == fstype {
			p.Mounts[i].Own = false
		}
	}
	return settleOwners(p)
}

// hostMadeBelow finds something that the host makes after mount i, at its place
// or below it.
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

func (p *Plan) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

func (p *Plan) skipsShift(destination string) bool {
	return slices.Contains(p.skipShift, destination)
}
