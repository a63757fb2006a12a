// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"github.com/opencontainers/runtime-spec/specs-go"
)

// namespaceKinds, with their names in /proc/PID/ns and whether one of a path is joined.
var namespaceKinds = []struct {
	kind  specs.LinuxNamespaceType
	file  string
	joins bool
}{
	{specs.PIDNamespace, "pid", true},
	{specs.NetworkNamespace, "net", true},
	{specs.IPCNamespace, "ipc", true},
	{specs.UTSNamespace, "uts", true},
	{specs.UserNamespace, "user", true},
	{specs.TimeNamespace, "time", true},
	{specs.MountNamespace, "mnt", false},
	{specs.CgroupNamespace, "cgroup", true},
}

// setNamespace gives a namespace a path, "" for a new one.
func setNamespace(kind specs.LinuxNamespaceType, path string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		for i, n := range s.Linux.Namespaces {
			if n.Type == kind {
				s.Linux.Namespaces[i].Path = path
				return
			}
		}
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
	}
}

// firstNS stands for the folder with the namespaces of another container in the pod.
const firstNS = "/first/ns/"

// namespaceRows are linux.namespaces.
func namespaceRows() []Row {
	const typ, path = "linux.namespaces[].type", "linux.namespaces[].path"
	var rows []Row
	for _, n := range namespaceKinds {
		rows = append(rows, Row{Field: typ, Case: string(n.kind), Set: setNamespace(n.kind, ""), Box: "system:namespaces", Look: "namespace " + n.file, Want: "its own"})
		switch {
		case n.joins:
			set := setNamespace(n.kind, firstNS+n.file)
			rows = append(rows, Row{Field: path, Case: string(n.kind), Set: func(s *specs.Spec) {
				set(s)
				if n.kind == specs.UTSNamespace {
					s.Hostname = ""
				}
			}, Box: "second:" + n.file, Look: "namespace " + n.file, Want: "the other container's"},
				Row{Field: path, Case: string(n.kind) + " of the host's", Set: setNamespace(n.kind, "/proc/1/ns/"+n.file), Refused: `linux.namespaces[` + at(n.kind) + `].path is "/proc/1/ns/` + n.file + `": it is a namespace of the host; remove the path to get a new one`},
				Row{Field: path, Case: string(n.kind) + " of another kind", Set: setNamespace(n.kind, firstNS+wrong(n.file)), Box: "second", Refused: "linux.namespaces: path " + firstNS + wrong(n.file) + ` is not a namespace of the kind "` + n.file + `"`})
		case n.kind == specs.MountNamespace:
			rows = append(rows, Row{Field: path, Case: "mount", Set: setNamespace(n.kind, "/run/ns/x"), Refused: `linux.namespaces mount path is "/run/ns/x": a container always gets its own mount namespace, which protects its mounts; remove the path`})
		}
	}
	lacking := map[specs.LinuxNamespaceType]string{
		specs.PIDNamespace:     "the container would see and signal the processes of the host; remove --pid=host (Kubernetes: hostPID)",
		specs.NetworkNamespace: "the container would use the network of the host, on which its root has no privileges; remove --net=host (Kubernetes: hostNetwork) and publish ports instead",
		specs.IPCNamespace:     "the container would share memory and queues with the host; remove --ipc=host (Kubernetes: hostIPC)",
		specs.UTSNamespace:     "the container would share the hostname of the host; remove --uts=host",
		specs.MountNamespace:   `the container would see the mounts of the host; add {"type": "mount"}`,
	}
	for _, n := range namespaceKinds {
		drop := func(s *specs.Spec) {
			var kept []specs.LinuxNamespace
			for _, x := range s.Linux.Namespaces {
				if x.Type != n.kind {
					kept = append(kept, x)
				}
			}
			s.Linux.Namespaces = kept
		}
		why := lacking[n.kind]
		if why != "" {
			rows = append(rows, Row{Field: typ, Case: "no " + string(n.kind), Set: drop, Refused: `linux.namespaces: it has no "` + string(n.kind) + `", so ` + why})
			continue
		}
		want, note := "its own", "a container always has one"
		if n.kind == specs.TimeNamespace {
			want, note = "the host's", "whose clocks are everybody's"
		}
		rows = append(rows, Row{Field: typ, Case: "no " + string(n.kind), Set: drop, Box: "system:lacking", Look: "namespace " + n.file, Want: want, Note: note})
	}
	return append(rows,
		Row{Field: typ, Case: "unknown", Set: setNamespace("x", ""), Refused: `linux.namespaces[5].type is "x": Linux has no such namespace; supported: pid, network, ipc, uts, mount, user, cgroup and time`},
		Row{Field: typ, Case: "twice", Set: func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "pid"})
		}, Refused: `linux.namespaces[5].type is "pid": it occurs twice; list each namespace once`},
		Row{Field: path, Case: "relative", Set: setNamespace(specs.IPCNamespace, "x"), Refused: `linux.namespaces[1].path is "x": it must be an absolute path`})
}

// at is the place of a namespace in the list, where those that a container need not
// name are added.
func at(kind specs.LinuxNamespaceType) string {
	for i, n := range []specs.LinuxNamespaceType{"pid", "ipc", "uts", "mount", "network"} {
		if n == kind {
			return itoa(i)
		}
	}
	return "5"
}

// wrong is a namespace of another kind.
func wrong(file string) string {
	if file == "ipc" {
		return "uts"
	}
	return "ipc"
}
