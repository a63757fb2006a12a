// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// firstID is where the mappings begin that rows give the container; nobody's.
const firstID = 3000000000

func itoa(n int) string { return strconv.Itoa(n) }

// ownIDs gives the container mappings of the caller's, for which it has prepared
// the root file system.
func ownIDs(s *specs.Spec) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: firstID, Size: 70000}}
	s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
	if !hasNamespace(s, "user") {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user"})
	}
}

func hasNamespace(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	for _, n := range s.Linux.Namespaces {
		if n.Type == kind {
			return true
		}
	}
	return false
}

// linuxRows are the fields of linux that have no list of their own.
func linuxRows() []Row {
	rows := idRows()
	for _, x := range []struct{ name, value, want string }{
		{"net.ipv4.ip_forward", "1", "1"},
		{"fs.mqueue.msg_max", "12", "12"},
		{"kernel.domainname", "by.sysctl", "by.sysctl"},
		{"kernel.shmmax", "4096000", "4096000"},
		{"kernel.shmall", "5000", "5000"},
		{"kernel.shmmni", "77", "77"},
		{"kernel.shm_rmid_forced", "1", "1"},
		{"kernel.msgmax", "9000", "9000"},
		{"kernel.msgmnb", "17000", "17000"},
		{"kernel.msgmni", "333", "333"},
		{"kernel.sem", "33 32000 33 128", "33\t32000\t33\t128"},
	} {
		rows = append(rows, Row{Field: "linux.sysctl", Case: x.name, Set: func(s *specs.Spec) {
			if s.Linux.Sysctl == nil {
				s.Linux.Sysctl = map[string]string{}
			}
			s.Linux.Sysctl[x.name] = x.value
		}, Box: "ordinary:sysctl", Ask: "read /proc/sys/" + slashes(x.name), Want: x.want})
	}
	sysctl := func(name, why string) {
		rows = append(rows, Row{Field: "linux.sysctl", Case: name, Set: func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{name: "1"} }, Refused: `linux.sysctl is "` + name + `": ` + why})
	}
	const hosts = "it applies to the whole host; set it on the host; a container can set net.*, fs.mqueue.*, and shm*, msg*, sem* and domainname of kernel"
	sysctl("kernel.hostname", `the hostname has its own field; use "hostname"`)
	sysctl("vm.swappiness", hosts)
	sysctl("kernel.core_pattern", hosts)
	sysctl("net..x", "it is not the name of a sysctl; use a name such as net.ipv4.ip_forward")

	path := func(name, p string) Row {
		return Row{Field: "linux.cgroupsPath", Case: name, Set: func(s *specs.Spec) { s.Linux.CgroupsPath = p }}
	}
	abs, rel, sys := path("absolute", testCgroup+"/absolute"), path("relative", "conformance-relative"), path("slice:prefix:name without systemd", "system.slice:x:y")
	abs.Box, abs.Look, abs.Want = "system:absolute", "cgroup path", testCgroup+"/absolute"
	rel.Box, rel.Look, rel.Want = "system:relative", "cgroup path", "/sysbox/conformance-relative"
	sys.When = &Condition{"no systemd", func() bool { return !exists("/run/systemd/system") }}
	sys.Refused = madeCgroup + "the systemd cgroup driver cannot reach systemd over D-Bus; use the cgroupfs driver on hosts without systemd: system bus not found"
	root := path("the root", "/")
	root.Refused = `linux.cgroupsPath "/" is the root cgroup of the host; use a path below it`
	none := path("none", "")
	none.Box, none.Look, none.Want = "system:nopath", "cgroup path", "/sysbox/conformance/c1"
	rows = append(rows, abs, rel, none, sys, root)

	rows = append(rows,
		Row{Field: "linux.maskedPaths", Case: "a file", Set: mask("/etc/secret"), Box: "ordinary:masks", Ask: "stat /etc/secret", Want: "c 1:3 0666 0:0"},
		Row{Field: "linux.maskedPaths", Case: "a folder", Set: mask("/srv/secrets"), Box: "ordinary:masks", Ask: "list /srv/secrets", Want: ""},
		Row{Field: "linux.maskedPaths", Case: "a folder, written to", Set: mask("/srv/secrets"), Box: "ordinary:masks", Ask: "write /srv/secrets", Want: "EROFS"},
		Row{Field: "linux.maskedPaths", Case: "not there", Set: mask("/no/such"), Box: "ordinary:masks", Ask: "hostname", Want: "box"},
		Row{Field: "linux.maskedPaths", Case: "in /proc", Box: "ordinary", Ask: "stat /proc/keys", Want: "c 1:3 0666 0:0"},
		Row{Field: "linux.maskedPaths", Case: "/proc/kcore in a system container", Box: "system", Ask: "mounted /proc/kcore", Want: "no", Note: "lifted, as it belongs to nobody there"},
		Row{Field: "linux.maskedPaths", Case: "relative", Set: mask("etc"), Refused: `linux.maskedPaths[5] is "etc": it must be an absolute path below the root`},
		Row{Field: "linux.readonlyPaths", Set: readonly("/srv"), Box: "ordinary:masks", Ask: "write /srv", Want: "EROFS"},
		Row{Field: "linux.readonlyPaths", Case: "in /proc", Box: "ordinary:masks", Ask: "flag /proc/sys ro", Want: "ro"},
		Row{Field: "linux.readonlyPaths", Case: "/proc/sys in a system container", Box: "system", Ask: "write /proc/sys/net/ipv4/ip_forward", Want: "works", Note: "lifted for the settings of its own namespaces"},
		Row{Field: "linux.readonlyPaths", Case: "relative", Set: readonly("etc"), Refused: `linux.readonlyPaths[4] is "etc": it must be an absolute path below the root`},
	)
	for _, x := range []struct{ mode, want string }{
		{"private", "private"}, {"rprivate", "private"}, {"slave", "slave"}, {"rslave", "slave"}, {"unbindable", "unbindable"}, {"runbindable", "unbindable"},
	} {
		rows = append(rows, Row{Field: "linux.rootfsPropagation", Case: x.mode, Set: func(s *specs.Spec) { s.Linux.RootfsPropagation = x.mode }, Box: "ordinary:root-" + x.mode, Ask: "propagation /", Want: x.want})
	}
	for _, mode := range []string{"shared", "rshared"} {
		rows = append(rows, Row{
			Field: "linux.rootfsPropagation", Case: mode, Set: func(s *specs.Spec) { s.Linux.RootfsPropagation = mode },
			Refused: `linux.rootfsPropagation is "` + mode + `": mounts cannot propagate from the user namespace of the container to the host; use rslave (Kubernetes: HostToContainer) or rprivate (None) instead of Bidirectional`,
		})
	}
	rows = append(rows, Row{
		Field: "linux.rootfsPropagation", Case: "unknown", Set: func(s *specs.Spec) { s.Linux.RootfsPropagation = "x" },
		Refused: `linux.rootfsPropagation is "x": unknown value; supported: private, rprivate, rshared, rslave, runbindable, shared, slave, unbindable`,
	})

	person := func(domain specs.LinuxPersonalityDomain, flags ...specs.LinuxPersonalityFlag) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: domain, Flags: flags} }
	}
	rows = append(rows,
		Row{Field: "linux.personality.domain", Case: "LINUX", Set: person(specs.PerLinux), Box: "ordinary:linux", Ask: "personality", Want: " " + machine()},
		Row{Field: "linux.personality.domain", Case: "LINUX32", Set: person(specs.PerLinux32), Box: "ordinary:linux32", Ask: "personality", Want: "8 " + machine32()},
		Row{Field: "linux.personality.domain", Case: "unknown", Set: person("X"), Refused: `linux.personality.domain is "X": unknown value; supported: LINUX and LINUX32`},
		Row{Field: "linux.personality.flags", Set: person(specs.PerLinux, "X"), Refused: `linux.personality.flags is "X": runtime-spec 1.3 defines no flags; remove it`},
		Row{Field: "linux.intelRdt", Set: func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} }, Refused: `linux.intelRdt: Intel RDT is not supported; remove it`},
		Row{Field: "linux.mountLabel", When: noSELinux, Set: func(s *specs.Spec) { s.Linux.MountLabel = "system_u:object_r:x:s0" }, Refused: `linux.mountLabel is "system_u:object_r:x:s0": SELinux is not enabled on this host; enable it or remove the label`},
	)
	const label = "system_u:object_r:container_file_t:s0:c1,c2"
	for _, fs := range []string{"tmpfs", "ramfs", "devpts", "mqueue"} {
		rows = append(rows, Row{Field: "linux.mountLabel", Case: fs, When: seLinux, Set: func(s *specs.Spec) {
			s.Linux.MountLabel = label
			mountAt("/m/label-"+fs, fs, fs)(s)
		}, Box: "ordinary:label", Ask: "label /m/label-" + fs, Want: label})
	}
	rows = append(rows,
		Row{Field: "linux.mountLabel", Case: "a mount's own", When: seLinux, Set: mountAt("/m/own-label", "tmpfs", "tmpfs", `context="system_u:object_r:container_file_t:s0:c3,c4"`), Box: "ordinary:label", Ask: "label /m/own-label", Want: "system_u:object_r:container_file_t:s0:c3,c4"},
		Row{Field: "linux.mountLabel", Case: "not in the policy", When: seLinux, Set: func(s *specs.Spec) { s.Linux.MountLabel = "system_u:object_r:nosuch_t:s0" }, Refused: `linux.mountLabel is "system_u:object_r:nosuch_t:s0": the SELinux policy of this host does not have it; use a user, role, type and level of the policy, or load one that has them`},
	)
	offset := func(clock string, o specs.LinuxTimeOffset) func(*specs.Spec) {
		return func(s *specs.Spec) {
			if !hasNamespace(s, "time") {
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "time"})
			}
			if s.Linux.TimeOffsets == nil {
				s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{}
			}
			s.Linux.TimeOffsets[clock] = o
		}
	}
	both := func(s *specs.Spec) {
		offset("monotonic", specs.LinuxTimeOffset{Secs: 86400, Nanosecs: 5})(s)
		offset("boottime", specs.LinuxTimeOffset{Secs: 172800, Nanosecs: 6})(s)
	}
	for _, field := range []string{"secs", "nanosecs"} {
		rows = append(rows, Row{Field: "linux.timeOffsets{}." + field, Set: both, Box: "ordinary:time", Ask: "offsets", Want: "monotonic 86400 5 boottime 172800 6"})
	}
	return append(rows,
		Row{Field: "linux.timeOffsets{}.nanosecs", Case: "a second or more", Set: offset("monotonic", specs.LinuxTimeOffset{Nanosecs: 1e9}), Refused: `linux.timeOffsets monotonic is "1000000000": it must be less than one second; raise secs instead`},
		Row{Field: "linux.timeOffsets", Case: "another clock", Set: offset("realtime", specs.LinuxTimeOffset{Secs: 1}), Refused: `linux.timeOffsets is "realtime": this clock has no offset; supported: monotonic and boottime`},
		Row{
			Field: "linux.timeOffsets", Case: "without a time namespace", Set: func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}} },
			Refused: `linux.timeOffsets is "map[boottime:{1 0}]": offsets need a new time namespace; add {"type": "time"} without a path to linux.namespaces`,
		})
}

func mask(p string) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, p) }
}

func readonly(p string) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, p) }
}

func idRows() []Row {
	var rows []Row
	for _, field := range []string{"uid", "gid"} {
		f := "linux." + field + "Mappings"
		for _, m := range mappingFields {
			rows = append(rows, Row{Field: f + "[]." + m, Set: ownIDs, Box: "ordinary:ids", Ask: "read /proc/self/" + field + "_map", Want: fmt.Sprintf("%10d %10d %10d", 0, firstID, 70000)})
		}
		set := func(ids ...specs.LinuxIDMapping) func(*specs.Spec) {
			return func(s *specs.Spec) {
				ownIDs(s)
				*map[string]*[]specs.LinuxIDMapping{"uid": &s.Linux.UIDMappings, "gid": &s.Linux.GIDMappings}[field] = ids
			}
		}
		refused := func(sub, kase, message string, ids ...specs.LinuxIDMapping) {
			rows = append(rows, Row{Field: f + sub, Case: kase, Set: set(ids...), Refused: message})
		}
		refused("", "one without the other", `linux.uidMappings and gidMappings: only one of the two is set; set both or neither`)
		refused("[].hostID", "0", f+` is "[{0 0 70000}]": it maps root of the host; use host ids that no user of the host has (or set ids.allow_host_root; docs/configuration.md says what that breaks)`, specs.LinuxIDMapping{Size: 70000})
		refused("[].containerID", "without root", f+` is "[{1 3000000000 70000}]": it does not map container id 0, the root of the container; map it`, specs.LinuxIDMapping{ContainerID: 1, HostID: firstID, Size: 70000})
		rows = append(rows, Row{Field: f + "[].size", Case: "few", Set: set(specs.LinuxIDMapping{HostID: firstID, Size: 9}), Box: "ordinary:few" + field, Ask: "read /proc/self/" + field + "_map", Want: fmt.Sprintf("%10d %10d %10d", 0, firstID, 9)})
		refused("[].size", "0", f+`[0] is "{0 3000000000 0}": its size is 0; set a size`, specs.LinuxIDMapping{HostID: firstID})
	}
	return rows
}
