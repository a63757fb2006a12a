// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"github.com/opencontainers/runtime-spec/specs-go"
)

// bind is a mount of a folder of the bundle, at /m/NAME.
func bind(name, source string, options ...string) func(*specs.Spec) {
	return mountAt("/m/"+name, "bind", source, options...)
}

func tmpfs(name string, options ...string) func(*specs.Spec) {
	return mountAt("/m/"+name, "tmpfs", "tmpfs", options...)
}

func mountAt(at, kind, source string, options ...string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: at, Type: kind, Source: source, Options: options})
	}
}

// mapped is a bind with id mappings of its own: what on the file system belongs to id 0
// belongs to 7 in the container.
func mapped(uid, gid bool) func(*specs.Spec) {
	return func(s *specs.Spec) {
		m := specs.Mount{Destination: "/m/mapped", Type: "bind", Source: "plain", Options: []string{"bind"}}
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: firstID + 7, Size: 1}}
		if uid {
			m.UIDMappings = ids
		}
		if gid {
			m.GIDMappings = ids
		}
		s.Mounts = append(s.Mounts, m)
		ownIDs(s)
	}
}

// mountRows are the fields of mounts but for the options.
func mountRows() []Row {
	rows := []Row{
		{Field: "mounts[].destination", Set: bind("place", "plain", "rbind"), Box: "system:mounts", Ask: "read /m/place/file", Want: "plain"},
		{Field: "mounts[].destination", Case: "relative", Set: mountAt("m/relative", "bind", "plain", "rbind"), Box: "system:mounts", Ask: "read /m/relative/file", Want: "plain"},
		{Field: "mounts[].destination", Case: "through a link of the image's", Set: mountAt("/link-to-host/x", "bind", "plain", "rbind"), Box: "system:mounts", Ask: "read /etc/x/file", Want: "plain"},
		{Field: "mounts[].destination", Case: "none", Set: mountAt("", "tmpfs", ""), Refused: `mounts[7].destination: it is empty; use an absolute path`},
		{Field: "mounts[].destination", Case: "the root", Set: mountAt("/", "tmpfs", ""), Refused: `mounts[7].destination is "/": a mount cannot cover the root of the container; use root.path`},
		{Field: "mounts[].destination", Case: "a file of /proc", Set: mountAt("/proc/sys", "bind", "plain", "bind"), Refused: `mounts[7].destination is "/proc/sys": only resource views can be bound over files of /proc; supported: /proc/cpuinfo, /proc/diskstats, /proc/loadavg, /proc/meminfo, /proc/slabinfo, /proc/stat, /proc/swaps, /proc/uptime, /proc/pressure/cpu, /proc/pressure/io, /proc/pressure/memory`},
		{Field: "mounts[].destination", Case: "a view in /proc", Set: mountAt("/proc/uptime", "bind", "plain/file", "bind"), Box: "system:mounts", Ask: "read /proc/uptime", Want: "plain"},
		{Field: "mounts[].destination", Case: "/dev by a bind", Set: mountAt("/dev", "bind", "plain", "bind"), Refused: `mounts[7].destination is "/dev": the container has its own /dev; remove the mount or bind single files below it`},

		{Field: "mounts[].destination", Case: "a file, of a folder", Set: mountAt("/etc/passwd", "bind", "plain", "bind"), Refused: `mount plain (bind) at /etc/passwd: /etc/passwd, or a directory on the way to it, is a file in the image: not a directory`},
		{Field: "mounts[].destination", Case: "a folder, of a file", Set: mountAt("/etc", "bind", "plain/file", "bind"), Refused: `mount plain/file (bind) at /etc: /etc is a directory in the image, but the source of the mount is a file: is a directory`},

		{Field: "mounts[].source", Case: "in the bundle", Set: bind("source", "plain", "rbind"), Box: "system:mounts", Ask: "read /m/source/file", Want: "plain"},
		{Field: "mounts[].source", Case: "a file", Set: bind("source-file", "plain/file", "bind"), Box: "system:mounts", Ask: "read /m/source-file", Want: "plain"},
		{Field: "mounts[].source", Case: "none for a bind", Set: bind("x", "", "bind"), Refused: `mounts[7].source: a bind needs a source; set a path on the host`},
		{Field: "mounts[].source", Case: "not there", Set: bind("x", "/no/such", "bind"), Refused: `mount /no/such (bind) at /m/x: open_tree /no/such: no such file or directory; make the source on the host first (a relative one is looked for in the bundle)`},

		{Field: "mounts[].type", Case: "none, with bind", Set: mountAt("/m/no-type", "", "plain", "bind"), Box: "system:mounts", Ask: "read /m/no-type/file", Want: "plain"},
		{Field: "mounts[].type", Case: "none", Set: mountAt("/m/x", "", "plain"), Refused: `mounts[7].type: it is empty, and the options do not include bind; set a type, or the option bind or rbind`},
		{Field: "mounts[].type", Case: "ext4", Set: mountAt("/m/x", "ext4", "/dev/vda"), Refused: `mounts[7].type is "ext4": it cannot be mounted in a user namespace; mount it on the host and bind it; supported: bind, binfmt_misc, bpf, cgroup, cgroup2, devpts, mqueue, proc, ramfs, sysfs, tmpfs`},

		{Field: "mounts[].uidMappings", Set: mapped(true, true), Box: "ordinary:mapped", Ask: "stat /m/mapped/file", Want: "f 0644 7:7"},
		{Field: "mounts[].uidMappings", Case: "without gidMappings", Set: mapped(true, false), Refused: `mounts[7].uidMappings and gidMappings: only one of the two is set; set both or neither`},
		{Field: "mounts[].gidMappings", Case: "without uidMappings", Set: mapped(false, true), Refused: `mounts[7].uidMappings and gidMappings: only one of the two is set; set both or neither`},
		{Field: "mounts[].gidMappings", Set: mapped(true, true), Box: "ordinary:mapped2", Ask: "stat /m/mapped/file", Want: "f 0644 7:7"},
		{Field: "mounts[].uidMappings", Case: "not of a bind", Set: func(s *specs.Spec) {
			ids := []specs.LinuxIDMapping{{HostID: firstID, Size: 1}}
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m/x", Type: "tmpfs", UIDMappings: ids, GIDMappings: ids})
		}, Refused: `mounts[7] is "tmpfs": only binds support id mappings; remove idmap and the mappings of the mount`},
	}
	for _, m := range mappingFields {
		rows = append(rows,
			Row{Field: "mounts[].uidMappings[]." + m, Set: mapped(true, true), Box: "ordinary:mapped3" + m, Ask: "stat /m/mapped/file", Want: "f 0644 7:7"},
			Row{Field: "mounts[].gidMappings[]." + m, Set: mapped(true, true), Box: "ordinary:mapped4" + m, Ask: "stat /m/mapped/file", Want: "f 0644 7:7"})
	}
	for _, fs := range []string{"tmpfs", "ramfs", "mqueue"} {
		rows = append(rows, Row{Field: "mounts[].type", Case: fs, Set: mountAt("/m/fs-"+fs, fs, fs), Box: "system:mounts", Ask: "type /m/fs-" + fs, Want: fs})
	}
	return append(rows,
		Row{Field: "mounts[].type", Case: "proc", Box: "system", Ask: "type /proc", Want: "proc"},
		Row{Field: "mounts[].type", Case: "sysfs", Box: "system", Ask: "type /sys", Want: "sysfs"},
		Row{Field: "mounts[].type", Case: "devpts", Box: "system", Ask: "type /dev/pts", Want: "devpts"},
		Row{Field: "mounts[].type", Case: "cgroup", Set: mountAt("/sys/fs/cgroup", "cgroup", "cgroup", "ro"), Box: "ordinary", Ask: "type /sys/fs/cgroup", Want: "cgroup2", Note: "version 2, which a user namespace can have"},
		Row{Field: "mounts[].type", Case: "cgroup2", Set: mountAt("/m/cgroup2", "cgroup2", "cgroup2"), Box: "system:mounts", Ask: "type /m/cgroup2", Want: "cgroup2"},
		Row{Field: "mounts[].type", Case: "bpf", Set: mountAt("/m/bpf", "bpf", "bpf"), Box: "system:bpf", Look: "mounts bpf", Want: "bpf", Refused: `make bpf at /m/bpf: fsconfig(fsopen("bpf", FSOPEN_CLOEXEC), FSCONFIG_CMD_CREATE, 0, 0, 0): operation not permitted`},
		Row{
			Field: "mounts[].type", Case: "binfmt_misc", Set: mountAt("/proc/sys/fs/binfmt_misc", "binfmt_misc", "binfmt_misc"), Box: "system:binfmt", Ask: "type /proc/sys/fs/binfmt_misc", Want: "binfmt_misc",
			When: &Condition{"Linux 6.7", func() bool { return exists("/proc/sys/fs/binfmt_misc") && kernel(6, 7) }},
		},
	)
}

var mappingFields = []string{"containerID", "hostID", "size"}

// mountOptionRows have every option that is known.
func mountOptionRows() []Row {
	const f = "mounts[].options"
	var rows []Row
	row := func(name string, set func(*specs.Spec), ask, want string) {
		rows = append(rows, Row{Field: f, Case: name, Set: set, Box: "ordinary:options", Ask: ask, Want: want})
	}
	// What a flag adds to a plain mount, and its opposite takes from one that has it.
	for _, o := range [][3]string{
		{"ro", "rw", "ro"},
		{"nosuid", "suid", "nosuid"},
		{"nodev", "dev", "nodev"},
		{"noexec", "exec", "noexec"},
		{"nosymfollow", "symfollow", "nosymfollow"},
		{"nodiratime", "diratime", "nodiratime"},
	} {
		on, off, flag := o[0], o[1], o[2]
		row(on, bind(on, "plain", "bind", on), "flag /m/"+on+" "+flag, flag)
		row(off, bind(off, "flagged", "bind", off), "flag /m/"+off+" "+flag, "no "+flag)
		row("r"+on, bind("r"+on, "plain", "rbind", "r"+on), "flag /m/r"+on+"/sub "+flag, flag)
		row("r"+off, bind("r"+off, "flagged", "rbind", "r"+off), "flag /m/r"+off+"/sub "+flag, "no "+flag)
	}
	for _, o := range [][2]string{
		{"noatime", "noatime, no relatime"},
		{"strictatime", "no noatime, no relatime"},
		{"relatime", "no noatime, relatime"},
		{"atime", "no noatime, relatime"},
		{"norelatime", "no noatime, no relatime"},
		{"nostrictatime", "no noatime, relatime"},
	} {
		source := "flagged" // has noatime
		if o[0] == "noatime" {
			source = "plain"
		}
		row(o[0], bind(o[0], source, "bind", o[0]), "flag /m/"+o[0]+" noatime relatime", o[1])
		row("r"+o[0], bind("r"+o[0], source, "rbind", "r"+o[0]), "flag /m/r"+o[0]+"/sub noatime relatime", o[1])
	}
	row("bind", bind("bind", "plain", "bind"), "mounted /m/bind/sub", "no")
	row("rbind", bind("rbind", "plain", "rbind"), "mounted /m/rbind/sub", "yes")
	for _, o := range []struct{ name, on, want string }{
		{"private", "", "private"},
		{"slave", "", "slave"},
		{"rprivate", "/sub", "private"},
		{"rslave", "/sub", "slave"},
		{"unbindable", "", "unbindable"},
		{"runbindable", "/sub", "unbindable"},
	} {
		row(o.name, bind(o.name, "plain", "rbind", o.name), "propagation /m/"+o.name+o.on, o.want)
	}
	for _, o := range []string{"sync", "dirsync", "lazytime", "mand"} {
		row(o, tmpfs(o, o), "super /m/"+o+" "+o, o)
	}
	for _, o := range [][2]string{{"async", "sync"}, {"nolazytime", "lazytime"}, {"nomand", "mand"}} {
		row(o[0], tmpfs(o[0], o[1], o[0]), "super /m/"+o[0]+" "+o[1], "no "+o[1])
	}
	for _, o := range []string{"defaults", "loud", "silent", "noiversion", "x-anything=1"} {
		row(o, tmpfs(o[:4]+"-"+o[len(o)-1:], o), "write /m/"+o[:4]+"-"+o[len(o)-1:], "works")
	}
	row("the last of two opposites", bind("last", "plain", "bind", "rw", "ro", "nosuid", "suid"), "flag /m/last ro nosuid", "ro, no nosuid")
	row("tmpcopyup", mountAt("/copied", "tmpfs", "tmpfs", "tmpcopyup"), "read /copied/file", "of the image's folder")
	row("idmap", bind("idmap", "plain", "bind", "idmap"), "stat /m/idmap/file", "f 0644 0:0")
	row("ridmap", bind("ridmap", "plain", "rbind", "ridmap"), "stat /m/ridmap/sub/file", "f 0644 0:0")
	row("copy-symlink", bind("copied-link", "plain/link", "bind", "copy-symlink"), "link /m/copied-link", "file")
	row("src-nofollow", bind("mounted-link", "plain/link", "bind", "src-nofollow"), "link /m/mounted-link", "file")
	row("dest-nofollow", mountAt("/etc/link", "bind", "plain/file", "bind", "dest-nofollow"), "read /etc/link", "plain")
	row("size= of tmpfs", tmpfs("size", "size=40k"), "super /m/size size", "size=40k")
	row("mode=, uid=, gid= of tmpfs", tmpfs("mode", "mode=1750", "uid=3", "gid=4"), "stat /m/mode", "d 1750 3:4")
	row("nr_inodes= of tmpfs", tmpfs("inodes", "nr_inodes=50"), "super /m/inodes nr_inodes", "nr_inodes=50")
	row("mode=, ptmxmode= of devpts", func(*specs.Spec) {}, "super /dev/pts ptmxmode", "ptmxmode=666")
	rows = append(rows,
		Row{Field: f, Case: "hidepid= of proc", Set: func(s *specs.Spec) { s.Mounts[0].Options = append(s.Mounts[0].Options, "hidepid=invisible") }, Box: "system:hidepid", Ask: "super /proc hidepid", Want: "hidepid=invisible"},
		Row{Field: f, Case: "idmap=uids=…;gids=…", Set: func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m/idmap", Type: "bind", Source: "plain", Options: []string{"bind", "idmap=uids=0-" + itoa(firstID+7) + "-1;gids=0-" + itoa(firstID+8) + "-1"}})
			ownIDs(s)
		}, Box: "ordinary:idmap", Ask: "stat /m/idmap/file", Want: "f 0644 7:8"},
	)
	for _, r := range []struct{ option, source, why string }{
		{"remount", "plain", "a spec describes new mounts, not changes of existing ones; set the option on the mount itself"},
		{"shared", "plain", "mounts cannot propagate from the user namespace of the container to the host; use rslave (Kubernetes: HostToContainer) or rprivate (None) instead of Bidirectional"},
		{"rshared", "plain", "mounts cannot propagate from the user namespace of the container to the host; use rslave (Kubernetes: HostToContainer) or rprivate (None) instead of Bidirectional"},
		{"iversion", "plain", "Linux no longer has this option for new mounts; remove it"},
		{"move", "plain", "moving a mount of the host into a container is not supported; use rbind"},
		{"sync", "plain", "it is not a bind option, and a bind cannot change the options of the file system that it shows; check its spelling or remove it"},
		{"nosuch", "plain", "it is not a bind option, and a bind cannot change the options of the file system that it shows; check its spelling or remove it"},
		{"tmpcopyup", "plain", "it only applies to tmpfs; remove it"},
		{"idmap=1", "plain", "each mapping needs three numbers; write idmap=uids=0-100000-65536;gids=0-100000-65536, or use uidMappings and gidMappings of the mount"},
	} {
		rows = append(rows, Row{Field: f, Case: r.option + " of a bind", Set: bind("x", r.source, "bind", r.option), Refused: `mounts[7].options is "` + r.option + `": ` + r.why})
	}
	return append(rows,
		Row{Field: f, Case: "copy-symlink of tmpfs", Set: tmpfs("x", "copy-symlink"), Refused: `mounts[7].options is "copy-symlink": copy-symlink, src-nofollow and dest-nofollow only apply to binds; remove them`},
		Row{Field: f, Case: "idmap of tmpfs", Set: tmpfs("x", "idmap"), Refused: `mounts[7] is "tmpfs": only binds support id mappings; remove idmap and the mappings of the mount`},
		Row{Field: f, Case: "what tmpfs does not know", Set: tmpfs("x", "nosuch=1"), Refused: `set option nosuch=1 of tmpfs at /m/x: fsconfig(fsopen("tmpfs", FSOPEN_CLOEXEC), FSCONFIG_SET_STRING, "nosuch", "1", 0): invalid argument`},
	)
}
