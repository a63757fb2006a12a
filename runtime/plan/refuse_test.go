// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// isRequirement finds the reasons that need no hint: they say what the value must be.
var isRequirement = regexp.MustCompile(`must|needs|largest`)

// TestRefusals: each row spoils ctr's spec in one way; the refusal names the
// field and the way out.
func TestRefusals(t *testing.T) {
	i64 := func(n int64) *int64 { return &n }
	num := func(n int) *int { return &n }
	u32 := func(n uint32) *uint32 { return &n }
	drop := func(typ specs.LinuxNamespaceType) func(*specs.Spec) {
		return func(s *specs.Spec) {
			var keep []specs.LinuxNamespace
			for _, n := range s.Linux.Namespaces {
				if n.Type != typ {
					keep = append(keep, n)
				}
			}
			s.Linux.Namespaces = keep
		}
	}
	ns := func(typ specs.LinuxNamespaceType, path string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			drop(typ)(s)
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: typ, Path: path})
		}
	}
	maps := func(m ...specs.LinuxIDMapping) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.UIDMappings, s.Linux.GIDMappings = m, m }
	}
	mount := func(m specs.Mount) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Mounts = append(s.Mounts, m) }
	}
	bind := func(dest string, options ...string) func(*specs.Spec) {
		return mount(specs.Mount{Destination: dest, Type: "bind", Source: "/srv", Options: options})
	}
	agent := func(path string, calls ...string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{
				DefaultAction: specs.ActAllow, ListenerPath: path,
				Syscalls: []specs.LinuxSyscall{{Names: calls, Action: specs.ActNotify}},
			}
		}
	}
	asOrdinary := func(then func(*specs.Spec)) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Process.Env = append(s.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE")
			then(s)
		}
	}
	device := func(d specs.LinuxDevice) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Devices = append(s.Linux.Devices, d) }
	}
	deviceRule := func(d specs.LinuxDeviceCgroup) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, d) }
	}
	process := func(f func(*specs.Process)) func(*specs.Spec) { return func(s *specs.Spec) { f(s.Process) } }
	env := func(e ...string) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, e...) }
	}
	sysctl := func(name string) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{name: "1"} }
	}
	memory := func(mode specs.MemoryPolicyModeType, nodes string, flags ...specs.MemoryPolicyFlagType) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: mode, Nodes: nodes, Flags: flags}
		}
	}
	netDevice := func(host, name string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{host: {Name: name}}
		}
	}
	mode := os.FileMode(1 << 30)

	for _, c := range []struct {
		name    string
		spoil   func(*specs.Spec)
		field   string
		mention string // in the sentence
	}{
		{"version 2", func(s *specs.Spec) { s.Version = "2.0.0" }, "ociVersion", "1.3.0"},
		{"no version", func(s *specs.Spec) { s.Version = "" }, "ociVersion", "1.3.0"},
		{"no process", func(s *specs.Spec) { s.Process = nil }, "process", "process.args"},
		{"no linux", func(s *specs.Spec) { s.Linux = nil }, "linux", "linux.namespaces"},
		{"no root", func(s *specs.Spec) { s.Root = nil }, "root.path", "rootfs"},
		{"host's root", func(s *specs.Spec) { s.Root.Path = "/../" }, "root.path", "root of the host"},

		{"host's network", drop("network"), "linux.namespaces", "hostNetwork"},
		{"host's pids", drop("pid"), "linux.namespaces", "hostPID"},
		{"host's ipc", drop("ipc"), "linux.namespaces", "hostIPC"},
		{"host's uts", drop("uts"), "linux.namespaces", "--uts=host"},
		{"host's mounts", drop("mount"), "linux.namespaces", `"mount"`},
		{"init's network", ns("network", "/proc/1/ns/net"), "linux.namespaces[4].path", "namespace of the host"},
		{"init's user namespace", ns("user", "/proc/./1/ns/user"), "linux.namespaces[5].path", "namespace of the host"},
		{"mount path", ns("mount", "/ns/mnt"), "linux.namespaces mount path", "remove the path"},
		{"the host's cgroup namespace", ns("cgroup", "/proc/1/ns/cgroup"), "linux.namespaces[5].path", "remove the path"},
		{"memory policy", memory("MPOL_NEAR", "0"), "linux.memoryPolicy.mode", "MPOL_BIND"},
		{"memory policy without nodes", memory(specs.MpolBind, ""), "linux.memoryPolicy.nodes", "for example"},
		{"memory policy with nodes", memory(specs.MpolLocal, "0"), "linux.memoryPolicy.nodes", "remove"},
		{"memory nodes", memory(specs.MpolBind, "0-1024"), "linux.memoryPolicy.nodes", "0-3,7"},
		{"memory flag", memory(specs.MpolBind, "0", "MPOL_F_X"), "linux.memoryPolicy.flags[0]", "MPOL_F_STATIC_NODES"},
		{"memory flags", memory(specs.MpolBind, "0", specs.MpolFRelativeNodes, specs.MpolFStaticNodes), "linux.memoryPolicy.flags", "one of the two"},
		{"network device by a path", netDevice("../eth0", ""), "linux.netDevices", "ip link"},
		{"network device without a name", netDevice("", ""), "linux.netDevices", "ip link"},
		{"network device of a template", netDevice("eth%d", ""), "linux.netDevices", "percent"},
		{"network device with two numbers", netDevice("eth1", "a%d%d"), "linux.netDevices.eth1.name", "percent"},
		{"network device with a long number", netDevice("eth1", "fourteen-bytes%d"), "linux.netDevices.eth1.name", "15 bytes"},
		{"relative path", ns("network", "ns/net"), "linux.namespaces[4].path", "absolute"},
		{"unknown namespace", ns("disk", ""), "linux.namespaces[5].type", "disk"},
		{"twice", func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces, s.Linux.Namespaces[0]) }, "linux.namespaces[5].type", "twice"},
		{"offsets without a namespace", func(s *specs.Spec) {
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
		}, "linux.timeOffsets", "new time namespace"},
		{"offset of a strange clock", func(s *specs.Spec) {
			ns("time", "")(s)
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {Secs: 1}}
		}, "linux.timeOffsets", "monotonic"},

		{"host's root mapped", maps(specs.LinuxIDMapping{HostID: 0, Size: 65536}), "linux.uidMappings", "allow_host_root"},
		{"host's root mapped to another", maps(specs.LinuxIDMapping{HostID: 100000, Size: 65536}, specs.LinuxIDMapping{ContainerID: 65536, HostID: 0, Size: 1}), "linux.uidMappings", "root of the host"},
		{"no container root", maps(specs.LinuxIDMapping{ContainerID: 1, HostID: 100000, Size: 65536}), "linux.uidMappings", "not map container id 0"},
		{"overlap", maps(specs.LinuxIDMapping{HostID: 100000, Size: 65536}, specs.LinuxIDMapping{ContainerID: 65536, HostID: 165535, Size: 9}), "linux.uidMappings[1]", "overlaps"},
		{"wrap", maps(specs.LinuxIDMapping{HostID: 4294967000, Size: 65536}), "linux.uidMappings[0]", "last id"},
		{"uid only", func(s *specs.Spec) {
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
		}, "linux.uidMappings and gidMappings", "both"},
		{"unmapped user", func(s *specs.Spec) {
			maps(specs.LinuxIDMapping{HostID: 100000, Size: 65536})(s)
			s.Process.User.UID = 65536
		}, "process.user.uid", "does not map it"},

		{"an agent in a system container", agent("/run/a", "mkdir"), "linux.seccomp", "SYSBOX_SYSCONT_MODE=FALSE"},
		{"an agent without a socket", asOrdinary(agent("", "mkdir")), "linux.seccomp", "listenerPath"},
		{"an agent by a relative path", asOrdinary(agent("run/a", "mkdir")), "linux.seccomp.listenerPath", "absolute"},
		{"an agent by a long path", asOrdinary(agent("/"+strings.Repeat("x", 107), "mkdir")), "linux.seccomp.listenerPath", "107 bytes"},
		{"an agent that is asked for what brings it the listener", asOrdinary(agent("/run/a", "mkdir", "sendmsg")), "linux.seccomp", "send its listener"},
		{"an agent that is asked for all", asOrdinary(func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActNotify, ListenerPath: "/run/a"}
		}), "linux.seccomp", "by default"},
		{"metadata without an agent", func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerMetadata: "x"}
		}, "linux.seccomp.listenerMetadata", "listenerPath"},

		{"no args", process(func(p *specs.Process) { p.Args = nil }), "process.args", "program"},
		{"empty program", process(func(p *specs.Process) { p.Args = []string{""} }), "process.args[0]", "program"},
		{"NUL in args", process(func(p *specs.Process) { p.Args = []string{"a", "b\x00c"} }), "process.args[1]", "NUL"},
		{"long arg", process(func(p *specs.Process) { p.Args = []string{"a", strings.Repeat("x", maxArg)} }), "process.args[1]", "shorten"},
		{"relative cwd", process(func(p *specs.Process) { p.Cwd = "x" }), "process.cwd", "absolute"},
		{"no cwd", process(func(p *specs.Process) { p.Cwd = "" }), "process.cwd", "absolute"},
		{"uid -1", process(func(p *specs.Process) { p.User.UID = noID }), "process.user.uid", "not a valid id"},
		{"gid -1", process(func(p *specs.Process) { p.User.GID = noID }), "process.user.gid", "not a valid id"},
		{"group -1", process(func(p *specs.Process) { p.User.AdditionalGids = []uint32{1, noID} }), "process.user.additionalGids[1]", "not a valid id"},
		{"umask", process(func(p *specs.Process) { p.User.Umask = u32(0o1000) }), "process.user.umask", "permission bits"},
		{"console", func(s *specs.Spec) { s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Width: 70000} }, "process.consoleSize", "65535"},
		{"rlimit", process(func(p *specs.Process) { p.Rlimits[0].Type = "RLIMIT_X" }), "process.rlimits[0].type", "RLIMIT_NOFILE"},
		{"rlimit twice", process(func(p *specs.Process) { p.Rlimits = append(p.Rlimits, p.Rlimits[0]) }), "process.rlimits[1].type", "twice"},
		{"soft above hard", process(func(p *specs.Process) { p.Rlimits[0].Soft = 1 << 60 }), "process.rlimits[0]", "lower"},
		{"oom", process(func(p *specs.Process) { p.OOMScoreAdj = num(1001) }), "process.oomScoreAdj", "-1000 and 1000"},
		{"policy", process(func(p *specs.Process) { p.Scheduler = &specs.Scheduler{Policy: specs.SchedISO} }), "process.scheduler.policy", "SCHED_ISO"},
		{"priority", process(func(p *specs.Process) { p.Scheduler = &specs.Scheduler{Policy: specs.SchedFIFO} }), "process.scheduler.priority", "1 to 99"},
		{"negative priority", process(func(p *specs.Process) { p.Scheduler = &specs.Scheduler{Policy: specs.SchedRR, Priority: -1} }), "process.scheduler.priority", "1 to 99"},
		{"deadline", process(func(p *specs.Process) {
			p.Scheduler = &specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 3000, Deadline: 2000}
		}), "process.scheduler", "deadline"},
		{"nice", process(func(p *specs.Process) { p.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 20} }), "process.scheduler.nice", "19"},
		{"io class", process(func(p *specs.Process) { p.IOPriority = &specs.LinuxIOPriority{Class: "X"} }), "process.ioPriority.class", "IOPRIO_CLASS_BE"},
		{"io level", process(func(p *specs.Process) {
			p.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
		}), "process.ioPriority.priority", "7"},
		{"personality", func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "BSD"} }, "linux.personality.domain", "LINUX32"},

		{"env without =", env("A"), "process.env", "NAME=VALUE"},
		{"env without name", env("=A"), "process.env", "NAME=VALUE"},
		{"NUL in env", env("A=\x00"), "process.env A", "NUL"},
		{"unknown variable", env("SYSBOX_NOPE=1"), "process.env", "SYSBOX_HONOR_CAPS"},
		{"bad variable", env("SYSBOX_HONOR_CAPS=maybe"), "process.env SYSBOX_HONOR_CAPS", "TRUE"},
		{"relative skip", env("SYSBOX_SKIP_UID_SHIFT=/a,b"), "process.env SYSBOX_SKIP_UID_SHIFT", "absolute"},
		{"skip by a variable", env("SYSBOX_SKIP_UID_SHIFT=/a"), "process.env SYSBOX_SKIP_UID_SHIFT", "--annotation io.sysbox.skip-uid-shift=/a"},
		{"unknown annotation", func(s *specs.Spec) { s.Annotations = map[string]string{"io.sysbox.nope": ""} }, "annotations", "io.sysbox.honor-caps"},
		{"contradiction", func(s *specs.Spec) {
			env("SYSBOX_HONOR_CAPS=TRUE")(s)
			s.Annotations = map[string]string{"io.sysbox.honor-caps": "false"}
		}, "annotations io.sysbox.honor-caps", "remove one"},

		{"mount on the root", bind("/a/.."), "mounts[7].destination", "root.path"},
		{"mount nowhere", bind(""), "mounts[7].destination", "absolute"},
		{"our own place", bind("/dev/.sysbox/proc"), "mounts[7].destination", "runtime"},
		{"bind over /proc", bind("/proc"), "mounts[7].destination", "/proc/meminfo"},
		{"bind in /proc", bind("/proc/self/attr"), "mounts[7].destination", "/proc/meminfo"},
		{"tmpfs in /proc", mount(specs.Mount{Destination: "/proc/x", Type: "tmpfs"}), "mounts[7].destination", "another path"},
		{"bind over /dev", bind("/dev/"), "mounts[7].destination", "its own /dev"},
		{"bind over /sys", bind("/sys"), "mounts[7].destination", "its own /sys"},
		{"tmpfs over /sys", mount(specs.Mount{Destination: "/sys", Type: "tmpfs"}), "mounts[7]", "sysfs"},
		{"shared", bind("/x", "rbind", "rshared"), "mounts[7].options", "HostToContainer"},
		{"shared tmpfs", mount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"shared"}}), "mounts[7].options", "rslave"},
		{"shared root", func(s *specs.Spec) { s.Linux.RootfsPropagation = "shared" }, "linux.rootfsPropagation", "HostToContainer"},
		{"unknown propagation", func(s *specs.Spec) { s.Linux.RootfsPropagation = "public" }, "linux.rootfsPropagation", "rslave"},
		{"disk", mount(specs.Mount{Destination: "/x", Type: "ext4", Source: "/dev/sda1"}), "mounts[7].type", "bind it"},
		{"no type", mount(specs.Mount{Destination: "/x", Source: "/srv"}), "mounts[7].type", "bind"},
		{"bind without source", mount(specs.Mount{Destination: "/x", Type: "bind"}), "mounts[7].source", "path on the host"},
		{"data on a bind", bind("/x", "size=1m"), "mounts[7].options", "size=1m"},
		{"sync on a bind", bind("/x", "sync"), "mounts[7].options", "sync"},
		{"remount", bind("/x", "remount"), "mounts[7].options", "remount"},
		{"copy-symlink", mount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"copy-symlink"}}), "mounts[7].options", "remove"},
		{"tmpcopyup on a bind", bind("/x", "tmpcopyup"), "mounts[7].options", "tmpfs"},
		{"idmap on tmpfs", mount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"idmap"}}), "mounts[7]", "binds"},
		{"unbindable tmpfs", mount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"unbindable"}}), "mounts[7].options", "binds"},
		{"tmpcopyup of mqueue", mount(specs.Mount{Destination: "/x", Type: "mqueue", Options: []string{"tmpcopyup"}}), "mounts[7].options", "tmpfs"},
		{"tmpcopyup of /dev", mount(specs.Mount{Destination: "/dev", Type: "tmpfs", Options: []string{"tmpcopyup"}}), "mounts[7].options", "/dev"},
		{"half of a mount's mapping", mount(specs.Mount{Destination: "/x", Type: "bind", Source: "/s", UIDMappings: []specs.LinuxIDMapping{{Size: 1}}}), "mounts[7].uidMappings and gidMappings", "both"},
		{"NUL in an option", bind("/x", "r\x00o"), "mounts[7].options", "NUL"},
		{"half a mapping", bind("/x", "idmap=uids=0-1-2"), "mounts[7].options", "gids"},
		{"relative mapping", bind("/x", "idmap=uids=@0-1-2;gids=0-1-2"), "mounts[7].options", "@"},
		{"below mqueue", bind("/dev/mqueue/x"), "mounts", "/dev/mqueue"},

		{"disk device", device(specs.LinuxDevice{Path: "/dev/sda", Type: "b", Major: 8}), "linux.devices[0]", "--privileged"},
		{"memory", device(specs.LinuxDevice{Path: "/dev/innocent", Type: "u", Major: 1, Minor: 1}), "linux.devices[0]", "memory"},
		{"console device", device(specs.LinuxDevice{Path: "/dev/tty0", Type: "c", Major: 4}), "linux.devices[0]", "consoles"},
		{"device path", device(specs.LinuxDevice{Path: "dev/x", Type: "c", Major: 240}), "linux.devices[0]", "absolute"},
		{"device in /proc", device(specs.LinuxDevice{Path: "/proc/x", Type: "c", Major: 240}), "linux.devices[0]", "/dev"},
		{"device in our place", device(specs.LinuxDevice{Path: "/dev/pts/7", Type: "c", Major: 240}), "linux.devices[0]", "runtime"},
		{"device type", device(specs.LinuxDevice{Path: "/dev/x", Type: "s"}), "linux.devices[0]", "supported: "},
		{"device number", device(specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: 1 << 33}), "linux.devices[0]", "4095"},
		{"device mode", device(specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: 240, FileMode: &mode}), "linux.devices[0]", "permission bits"},
		{"another null", device(specs.LinuxDevice{Path: "/dev/null", Type: "c", Major: 240}), "linux.devices[0]", "one device"},
		{"all devices", deviceRule(specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}), "linux.resources.devices[10]", "--privileged"},
		{"all devices in other words", deviceRule(specs.LinuxDeviceCgroup{Allow: true, Type: "a", Major: i64(-1)}), "linux.resources.devices[10]", "--privileged"},
		{"a rule without type and access", deviceRule(specs.LinuxDeviceCgroup{Allow: true, Major: i64(8)}), "linux.resources.devices[10]", "disk"},
		{"a rule without access", deviceRule(specs.LinuxDeviceCgroup{Allow: true, Type: "b", Major: i64(8)}), "linux.resources.devices[10]", "disk"},
		{"a device's owner", func(s *specs.Spec) {
			maps(specs.LinuxIDMapping{HostID: 100000, Size: 65536})(s)
			device(specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: 240, GID: u32(65536)})(s)
		}, "linux.devices /dev/x gid", "does not map it"},
		{"all disks", deviceRule(specs.LinuxDeviceCgroup{Allow: true, Type: "b", Access: "r"}), "linux.resources.devices[10]", "disk"},
		{"all characters", deviceRule(specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "rw"}), "linux.resources.devices[10]", "every device"},
		{"all of memory's", deviceRule(specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: i64(1), Minor: i64(-1), Access: "rw"}), "linux.resources.devices[10]", "memory"},

		{"host's sysctl", sysctl("kernel.panic"), "linux.sysctl", "on the host"},
		{"user sysctl", sysctl("user.max_user_namespaces"), "linux.sysctl", "on the host"},
		{"hostname sysctl", sysctl("kernel.hostname"), "linux.sysctl", "hostname"},
		{"sysctl climbs", sysctl("net/../kernel/panic"), "linux.sysctl", "not the name"},
		{"sysctl climbs with dots", sysctl("net.//.kernel.panic"), "linux.sysctl", "not the name"},
		{"sysctl prefix", sysctl("network.x"), "linux.sysctl", "on the host"},

		{"hostname", func(s *specs.Spec) { s.Hostname = strings.Repeat("a", 65) }, "hostname", "64"},
		{"masked path", func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"x"} }, "linux.maskedPaths[0]", "absolute"},
		{"hook path", func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "x"}}} }, "hooks.poststop[0].path", "absolute"},
		{"hook timeout", func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/x", Timeout: num(0)}}}
		}, "hooks.createRuntime[0].timeout", "above 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := testInput(t, "ctr")
			c.spoil(in.Spec)
			if in.Spec.Process != nil {
				in.Terminal = in.Spec.Process.Terminal
			}
			_, err := Make(in)
			var r *ValidationError
			if !errors.As(err, &r) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if r.Field != c.field || !strings.Contains(err.Error(), c.mention) || r.Reason == "" || r.Hint == "" && !isRequirement.MatchString(r.Reason) {
				t.Errorf("field %q, sentence %q; want field %q and a mention of %q", r.Field, err, c.field, c.mention)
			}
		})
	}
}

// TestRefusalIsBounded: a value of the caller's does not flood logs, nor break lines.
func TestRefusalIsBounded(t *testing.T) {
	s := invalid("f", strings.Repeat("x\n", 10000), "why", "way out").Error()
	if len(s) > 1000 || strings.Contains(s, "\n") {
		t.Errorf("%d bytes: %s", len(s), s[:100])
	}
}
