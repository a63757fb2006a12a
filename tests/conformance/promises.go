// SPDX-License-Identifier: Apache-2.0

package conformance

// promises are what the specification's runtime.md and config-linux.md say beyond the
// fields of config.json.
func promises() []Row {
	const devices, filesystems, links, life = "Default devices", "Default file systems", "Default links", "Lifecycle"
	var rows []Row
	see := func(field, kase, ask, want string) {
		rows = append(rows, Row{Field: field, Case: kase, Box: "system", Ask: ask, Want: want})
	}
	for _, d := range [][2]string{{"null", "1:3"}, {"zero", "1:5"}, {"full", "1:7"}, {"random", "1:8"}, {"urandom", "1:9"}, {"tty", "5:0"}} {
		see(devices, "/dev/"+d[0], "stat /dev/"+d[0], "c "+d[1]+" 0666 0:0")
		if d[0] != "tty" {
			see(devices, "/dev/"+d[0]+" opens", "open r /dev/"+d[0], "works")
		}
	}
	see(devices, "/dev/ptmx", "link /dev/ptmx", "pts/ptmx")
	see(devices, "/dev/ptmx opens", "open rw /dev/ptmx", "works")
	rows = append(rows, Row{Field: devices, Case: "/dev/console", Box: "terminal", Ask: "open rw /dev/console", Want: "works"})
	for _, m := range [][2]string{{"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev/pts", "devpts"}, {"/dev/shm", "tmpfs"}} {
		see(filesystems, m[0], "type "+m[0], m[1])
		rows = append(rows, Row{Field: filesystems, Case: m[0] + " that the spec leaves out", Set: noMounts, Box: "system:no-mounts", Ask: "type " + m[0], Want: m[1]})
	}
	for _, l := range [][2]string{{"/dev/fd", "/proc/self/fd"}, {"/dev/stdin", "/proc/self/fd/0"}, {"/dev/stdout", "/proc/self/fd/1"}, {"/dev/stderr", "/proc/self/fd/2"}} {
		see(links, l[0], "link "+l[0], l[1])
	}
	see("A process's own", "session", "session", "its own")
	see("A process's own", "session keyring", "keyring", "_ses.c1")
	see("A process's own", "open files", "files", "0 1 2 3")
	rows = append(rows,
		Row{Field: "Mounts in their order", Set: func(s *spec) {
			tmpfs("order")(s)
			mountAt("/m/order/plain", "bind", "plain", "rbind")(s)
			mountAt("/m/order/plain/sub", "tmpfs", "tmpfs", "ro")(s)
		}, Box: "system:mounts", Ask: "read /m/order/plain/file", Want: "plain"},
		Row{Field: "Mounts in their order", Case: "the last above", Set: nil, Box: "system:mounts", Ask: "type /m/order/plain/sub", Want: "tmpfs"},
	)
	for _, l := range [][3]string{
		{"the process waits for start", "before start", "/bin/inside has not run"},
		{"start a second time", "start twice", "cannot start a container twice"},
		{"create with an id that is taken", "create twice", "container c1: file already exists in namespace conformance; delete it first"},
		{"kill", "kill", "137"},
		{"delete of what runs", "delete", "works"},
		{"delete a second time", "delete twice", "works"},
	} {
		rows = append(rows, Row{Field: life, Case: l[0], Box: "system:life-" + l[1], Look: l[1], Want: l[2]})
	}
	return rows
}
