// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"github.com/opencontainers/runtime-spec/specs-go"
)

// rootRows are the fields of config.json itself.
func rootRows() []Row {
	version := func(v string) func(*specs.Spec) { return func(s *specs.Spec) { s.Version = v } }
	rows := []Row{
		{Field: "ociVersion", Case: "1.0.0", Set: version("1.0.0"), Box: "system:1.0.0", Ask: "hostname", Want: "box"},
		{Field: "ociVersion", Case: "1.3.0", Box: "system", Ask: "hostname", Want: "box"},
		{Field: "ociVersion", Case: "2.0.0", Set: version("2.0.0"), Refused: `ociVersion is "2.0.0": it must be a version 1 of the runtime spec; use "1.3.0"`},
		{Field: "ociVersion", Case: "none", Set: version(""), Refused: `ociVersion: it must be a version 1 of the runtime spec; use "1.3.0"`},

		{Field: "root.path", Case: "in the bundle", Box: "system", Ask: "read /etc/image", Want: "of the image"},
		{Field: "root.path", Case: "none", Set: func(s *specs.Spec) { s.Root.Path = "" }, Refused: `root.path: it is empty; set it, for example to "rootfs"`},
		{Field: "root.path", Case: "the host's root", Set: func(s *specs.Spec) { s.Root.Path = "/" }, Refused: `root.path is "/": it is the root of the host; use a directory that only the container uses`},
		{Field: "root.readonly", Case: "true", Set: func(s *specs.Spec) { s.Root.Readonly = true }, Box: "ordinary:read-only", Ask: "write /etc", Want: "EROFS"},
		{Field: "root.readonly", Case: "false", Box: "system", Ask: "write /etc", Want: "works"},

		{Field: "hostname", Set: func(s *specs.Spec) { s.Hostname = "a-name" }, Box: "system:names", Ask: "hostname", Want: "a-name"},
		{Field: "hostname", Case: "longer than 64 bytes", Set: func(s *specs.Spec) { s.Hostname = long(65) }, Refused: `hostname is "` + long(65) + `": the kernel accepts at most 64 bytes; shorten it`},
		{Field: "domainname", Set: func(s *specs.Spec) { s.Domainname = "a.domain" }, Box: "system:names", Ask: "domainname", Want: "a.domain"},
		{Field: "domainname", Case: "longer than 64 bytes", Set: func(s *specs.Spec) { s.Domainname = long(65) }, Refused: `domainname is "` + long(65) + `": the kernel accepts at most 64 bytes; shorten it`},

		{Field: "annotations", Set: func(s *specs.Spec) { s.Annotations = map[string]string{"org.example.key": "value"} }, Box: "hooks", Look: "state poststart annotations", Want: `{"org.example.key":"value"}`},
		{Field: "annotations", Case: "io.sysbox.*", Set: func(s *specs.Spec) { s.Annotations = map[string]string{"io.sysbox.no-such": "1"} }, Refused: `annotations is "io.sysbox.no-such": unknown annotation; supported: io.sysbox.syscont-mode, io.sysbox.ignore-sysfs-chown, io.sysbox.allow-trusted-xattr, io.sysbox.honor-caps, io.sysbox.skip-uid-shift`},
	}
	return rows
}

func long(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'x'
	}
	return string(b)
}

// otherSystems are the sections of other operating systems: a container made from them
// in part would not be what they describe.
func otherSystems() []Row {
	var rows []Row
	for _, o := range []struct {
		field string
		set   func(*specs.Spec)
	}{
		{"solaris", func(s *specs.Spec) { s.Solaris = &specs.Solaris{} }},
		{"windows", func(s *specs.Spec) { s.Windows = &specs.Windows{} }},
		{"vm", func(s *specs.Spec) { s.VM = &specs.VM{} }},
		{"zos", func(s *specs.Spec) { s.ZOS = &specs.ZOS{} }},
		{"freebsd", func(s *specs.Spec) { s.FreeBSD = &specs.FreeBSD{} }},
	} {
		rows = append(rows, Row{Field: o.field, Set: o.set, Refused: o.field + ": this runtime only supports Linux containers; remove the section"})
	}
	return append(rows,
		Row{Field: "process.commandLine", Set: func(s *specs.Spec) { s.Process.CommandLine = "cmd" }, Refused: `process.commandLine is "cmd": it only applies to Windows; use process.args`},
		Row{Field: "process.user.username", Set: func(s *specs.Spec) { s.Process.User.Username = "u" }, Refused: `process.user.username is "u": it only applies to Windows; use process.user.uid and gid`},
	)
}
