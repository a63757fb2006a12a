// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// rule is one change that this project makes to the spec of a system container.
// Its name is the Origin of the mounts that it adds.
type rule struct {
	name  string
	apply func(r *rule, in Input, p *Plan)
}

// systemRules are all changes to the spec of a system container, in order. Only
// capabilities ([processCaps]) and the seccomp profile (package seccomp) are changed
// elsewhere. Mounts of the spec win over those of a rule unless the rule says
// otherwise.
var systemRules = []rule{
	{"own-dev", ownDev},
	{"own-sysfs", ownSysfs},
	{"own-proc", ownProc},
	{"own-cgroup", ownCgroup},
	{"default-filesystems", defaultFilesystems},
	{"kmsg-is-null", kmsgIsNull},
	{"devices", systemDevices},
	{"read-only-root", readOnlyRoot},
	{"systemd", systemd},
	{"nodes-on-tmpfs", nodesOnTmpfs},
	{"lift-masks", liftMasks},
	{"empty-host-directories", emptyHostDirs},
	{"kernel-files", kernelFiles},
	{"binfmt-misc", binfmt},
	{"masks-by-init", masksByInit},
	{"storage", storage},
}

const (
	hardened   = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	binfmtMisc = "/proc/sys/fs/binfmt_misc"
)

// replace removes the mounts of the spec at a place and puts the mount of the rule first.
func (p *Plan) replace(r *rule, m Mount) {
	m.Origin = r.name
	p.Mounts = slices.DeleteFunc(p.Mounts, func(x Mount) bool { return x.Destination == m.Destination })
	p.Mounts = slices.Insert(p.Mounts, 0, m)
}

// add puts a mount before the mounts of the spec that lie below it, unless the
// spec has one at the same place.
func (p *Plan) add(r *rule, m Mount) {
	if slices.ContainsFunc(p.Mounts, func(x Mount) bool { return canonical(x.Destination) == canonical(m.Destination) }) {
		return
	}
	m.Origin = r.name
	at := slices.IndexFunc(p.Mounts, func(x Mount) bool { return covers(m.Destination, x.Destination) })
	if at < 0 {
		at = len(p.Mounts)
	}
	p.Mounts = slices.Insert(p.Mounts, at, m)
}

// ownDev: the host side makes /dev and its nodes, so that they open and cannot be
// replaced. A size in the spec is kept.
func ownDev(r *rule, _ Input, p *Plan) {
	data := p.dataAt("/dev")
	if data == nil {
		data = []string{"mode=755", "size=65536k"}
	}
	p.replace(r, Mount{
		Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
		Data: data, Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_STRICTATIME,
		Clear: unix.MOUNT_ATTR__ATIME,
	})
}

// ownSysfs: a writable sysfs; root of the container owns only what belongs to its
// network namespace.
//
// Where init is systemd it is read-only, unless the spec says rw. In a writable sysfs systemd
// expects devices, waits for udev, and fails to write every uevent file. It can be remounted, and
// a sysfs that is mounted inside is writable.
func ownSysfs(r *rule, _ Input, p *Plan) {
	m := Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Set: hardened}
	rw := slices.ContainsFunc(p.Mounts, func(x Mount) bool { return x.Destination == "/sys" && x.Clear&unix.MOUNT_ATTR_RDONLY != 0 })
	if p.Systemd && !rw {
		m.InitSet = unix.MOUNT_ATTR_RDONLY
	}
	p.replace(r, m)
}

// ownProc: a writable proc; files that the container must not write belong to unmapped
// ids there. Options of the spec such as hidepid are kept.
func ownProc(r *rule, _ Input, p *Plan) {
	p.replace(r, Mount{Destination: "/proc", Type: "proc", Source: "proc", Set: hardened, Data: p.dataAt("/proc")})
}

// dataAt returns the file system options of what the spec mounts at a place.
func (p *Plan) dataAt(destination string) []string {
	var data []string
	for _, m := range p.Mounts {
		if m.Destination == destination {
			data = m.Data
		}
	}
	return data
}

// ownCgroup: the container's own, writable part of the cgroup tree, for its
// systemd. A mount of the spec at this place is dropped.
func ownCgroup(r *rule, in Input, p *Plan) {
	const at = "/sys/fs/cgroup"
	for _, m := range p.Mounts {
		if under(m.Destination, at) && (m.Destination != at || m.Type == "bind") {
			p.warn("mount at %s left out: a system container has its own cgroup tree", m.Destination)
		}
	}
	p.Mounts = slices.DeleteFunc(p.Mounts, func(x Mount) bool { return under(x.Destination, at) })
	m := Mount{Destination: at, Type: "cgroup", Source: "cgroup", Set: hardened, Own: true, Origin: r.name}
	if in.Facts.Cgroup2 {
		m.Type = "cgroup2"
	}
	sys := slices.IndexFunc(p.Mounts, func(x Mount) bool { return x.Destination == "/sys" })
	p.Mounts = slices.Insert(p.Mounts, sys+1, m)
	p.Cgroup.Delegate = true
}

// defaultFilesystems adds those of runtime-spec 1.3 (config-linux.md) that callers may
// leave out, and mqueue.
func defaultFilesystems(r *rule, _ Input, p *Plan) {
	const noexec = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	p.add(r, Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Own: true, Set: noexec, Data: []string{"newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}})
	p.add(r, Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Own: true, Set: hardened, Data: []string{"mode=1777", "size=65536k"}})
	p.add(r, Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Own: true, Set: hardened})
}

// kmsgIsNull: the kubelets of k3s and others read /dev/kmsg; it is empty for them.
func kmsgIsNull(_ *rule, _ Input, p *Plan) {
	if !slices.ContainsFunc(p.Devices, func(d Device) bool { return d.Path == "/dev/kmsg" }) {
		p.Devices = append(p.Devices, Device{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 3, Mode: 0o666})
	}
}

// systemDevices: FUSE and TUN are safe in user namespaces.
func systemDevices(_ *rule, _ Input, p *Plan) {
	for _, d := range []Device{
		{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, Mode: 0o666, Optional: true},
		{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200, Mode: 0o666, Optional: true},
	} {
		if !slices.ContainsFunc(p.Devices, func(x Device) bool { return x.Path == d.Path }) {
			p.Devices = append(p.Devices, d)
		}
	}
}

var tmpfsRun = Mount{
	Destination: "/run", Type: "tmpfs", Source: "tmpfs", Own: true,
	Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Data: []string{"mode=755"},
}

// readOnlyRoot: programs need a writable place for temporary files.
func readOnlyRoot(r *rule, _ Input, p *Plan) {
	if !p.Rootfs.Readonly {
		return
	}
	p.add(r, tmpfsRun)
	p.add(r, Mount{
		Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Own: true,
		Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Data: []string{"mode=1777"},
	})
}

// systemdPaths are the paths where distributions install systemd as init.
var systemdPaths = []string{"/sbin/init", "/usr/sbin/init", "/bin/init", "/usr/bin/init", "/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/bin/systemd", "/usr/bin/systemd"}

// systemd expects a tmpfs on /run and the variable container (systemd's container
// interface). systemd-detect-virt accepts any value; "oci" does not claim another
// product, and makes systemd look at the files that distinguish podman and
// Docker.
func systemd(r *rule, in Input, p *Plan) {
	if !p.Systemd {
		return
	}
	p.add(r, tmpfsRun)
	p.add(r, Mount{
		Destination: "/run/lock", Type: "tmpfs", Source: "tmpfs", Own: true,
		Set: hardened, Data: []string{"mode=1777", "size=5m"},
	})
	if in.Spec.Linux.RootfsPropagation == "" {
		// As on a machine, where systemd does it itself: rshared volumes of Docker inside,
		// CSI drivers and a kubelet's Bidirectional rest on it.
		p.Rootfs.Propagation = unix.MS_SHARED | unix.MS_REC
	}
	if !slices.ContainsFunc(p.Process.Env, func(e string) bool { return strings.HasPrefix(e, "container=") }) {
		p.Process.Env = append(p.Process.Env, "container=oci")
	}
	p.Masked = without(p.Masked, "/run", "/tmp")
	p.Readonly = without(p.Readonly, "/run", "/tmp")
}

// nodesOnTmpfs: device nodes open by themselves on a tmpfs that the host side has made; on one
// that the container has made they open only under a bind, which rm(1) cannot remove. With
// nodev they open on neither.
//
// The kernel locks the mounts of the host side. The rule only applies to the tmpfs of systemd,
// which does not unmount them.
func nodesOnTmpfs(_ *rule, _ Input, p *Plan) {
	if !p.Systemd {
		return
	}
	for i := range p.Mounts {
		m := &p.Mounts[i]
		if at := canonical(m.Destination); m.Type == "tmpfs" && (at == "/run" || at == "/tmp") && m.Set&unix.MOUNT_ATTR_NODEV == 0 {
			m.byHost()
		}
	}
}

// liftMasks removes masks from what nested containers and systemd must see. Isolation does
// not depend on masks: in a user namespace unmapped ids own these files.
func liftMasks(_ *rule, _ Input, p *Plan) {
	p.warnAboutMasks("linux.maskedPaths", p.Masked)
	p.warnAboutMasks("linux.readonlyPaths", p.Readonly)
	lifted := []string{"/proc", "/proc/sys", "/proc/kcore", "/proc/kallsyms", "/proc/kmsg"}
	p.Masked = without(p.Masked, lifted...)
	p.Readonly = without(p.Readonly, lifted...)
	p.RevealProc = true
}

// masksByInit: what the tree masks is locked, and umount -R of a bind of /proc, /sys or /dev
// stops at it. Of the container's own proc and sysfs nothing has to be (TestNothingRestsOnMasks),
// unless the spec has mounted something there: the kernel lets init copy no mount with locked
// ones below.
func masksByInit(_ *rule, _ Input, p *Plan) {
	kernels := func(path string) bool { return under(path, "/proc") || under(path, "/sys") }
	for _, m := range p.Mounts {
		if kernels(m.Destination) && m.Destination != "/proc" && m.Destination != "/sys" && !m.Own {
			return
		}
	}
	split := func(list []string) (locked, own []string) {
		for _, m := range list {
			if kernels(m) {
				own = append(own, m)
			} else {
				locked = append(locked, m)
			}
		}
		return locked, own
	}
	p.Masked, p.InitMasked = split(p.Masked)
	p.Readonly, p.InitReadonly = split(p.Readonly)
	p.InitReveal, p.RevealProc = p.RevealProc, false
}

// defaultMasks are those that containerd, Docker, podman and CRI-O put into each spec. None is
// needed for isolation (TestNothingRestsOnMasks of package runtime).
var defaultMasks = []string{
	"/proc", "/proc/acpi", "/proc/asound", "/proc/bus", "/proc/fs", "/proc/interrupts", "/proc/irq", "/proc/kallsyms", "/proc/kcore", "/proc/keys", "/proc/kmsg", "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi", "/proc/sys", "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats",
	"/sys", "/sys/dev/block", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux",
}

// warnAboutMasks warns about masks over kernel files that are not among the defaults.
func (p *Plan) warnAboutMasks(field string, list []string) {
	for _, m := range list {
		if (under(m, "/proc") || under(m, "/sys")) && !slices.Contains(defaultMasks, m) && !strings.HasSuffix(m, "/thermal_throttle") {
			p.warn("%s: %s covers that path only: root of a system container can mount another proc or sysfs, where only the kernel protects the file; an ordinary container (SYSBOX_SYSCONT_MODE=FALSE) cannot", field, m)
		}
	}
}

func without(list []string, drop ...string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(drop, s) })
}

// emptyHostDirs covers directories of sysfs where the host mounts file systems, which the
// kernel does not allow in a user namespace. Once covered they count as mounted, and
// systemd's units for them do not fail.
func emptyHostDirs(_ *rule, _ Input, p *Plan) {
	for _, dir := range []string{"/sys/kernel/config", "/sys/kernel/debug", "/sys/kernel/security", "/sys/kernel/tracing"} {
		covered := slices.ContainsFunc(p.Mounts, func(m Mount) bool { return m.Destination == dir })
		if !covered && !slices.Contains(p.Masked, dir) {
			p.Masked = append(p.Masked, dir)
		}
	}
}

// kernelFiles: modules and headers of the running kernel, for modprobe -n,
// installers that depend on the kernel, and eBPF tools. Their ids are not
// shifted, so that files for the root of the host alone stay closed. Root can unmount them, as
// builders do that empty the root.
func kernelFiles(r *rule, in Input, p *Plan) {
	for _, dir := range sortedKeys(in.Facts.HostDirs) {
		if !in.Facts.HostDirs[dir] || !path.IsAbs(dir) || path.Clean(dir) != dir || !underAny(dir, "/lib/modules", "/usr/src", "/usr/lib/modules") || p.coveredBySpec(dir) {
			continue
		}
		p.add(r, Mount{
			Destination: dir, Type: "bind", Source: dir, Optional: true, Late: true,
			Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV,
		})
		if path.Base(path.Dir(dir)) == "modules" {
			// From this list systemd makes nodes for modules that are not loaded yet. It
			// gives tun and fuse a mode that lets only root open them until udev changes
			// it, and containers do not run udev.
			p.LateMasked = append(p.LateMasked, dir+"/modules.devname")
		}
	}
}

// NoBinfmt says what happens without a binfmt_misc for each user namespace.
const NoBinfmt = "programs for other processors only run inside if the host has registered them with the flag F; use Linux 6.7 or newer with CONFIG_BINFMT_MISC"

// binfmt: since Linux 6.7 each user namespace has its own interpreters.
func binfmt(r *rule, in Input, p *Plan) {
	if !in.Facts.BinfmtMiscNS {
		p.warn("binfmt_misc left out: the kernel has none for user namespaces: %s", NoBinfmt)
		return
	}
	p.add(r, Mount{Destination: binfmtMisc, Type: "binfmt_misc", Source: "binfmt_misc", Own: true, Set: hardened, Optional: true})
}

// coveredBySpec reports whether the spec mounts something at a path or above it.
func (p *Plan) coveredBySpec(dir string) bool {
	return slices.ContainsFunc(p.Mounts, func(m Mount) bool { return m.Origin == "spec" && covers(m.Destination, dir) })
}
