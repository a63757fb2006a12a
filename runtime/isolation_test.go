// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime"
	"sysbox/runtime/plan"
	"sysbox/runtime/program"
	"sysbox/tests/testcontainer"
)

// TestProcessIdentity: what of a process's identity the spec asks for is what
// the process has.
func TestProcessIdentity(t *testing.T) {
	t.Parallel()
	umask := uint32(0o27)
	ordinary := func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE") }
	for _, c := range []struct {
		name   string
		change func(*specs.Spec)
		script string
		want   string
	}{
		{"user and groups", func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7, 8}}
		}, "id -u; id -g; id -G; echo $HOME", "1000\n1001\n1001 7 8\n/home/user\n"},
		{"umask", func(s *specs.Spec) { s.Process.User.Umask = &umask }, "umask", "0027\n"},
		{"cwd that the image lacks", func(s *specs.Spec) { s.Process.Cwd = "/srv/new" }, "pwd", "/srv/new\n"},
		{"no_new_privs", func(s *specs.Spec) { s.Process.NoNewPrivileges = true }, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"},
		{"limits", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}}
		}, "ulimit -n; ulimit -Hn", "100\n200\n"},
		{"oom_score_adj", func(s *specs.Spec) { n := 321; s.Process.OOMScoreAdj = &n }, "cat /proc/self/oom_score_adj", "321\n"},
		{"all capabilities of root", nil, "grep CapEff /proc/self/status", "CapEff:\t000001ffffffffff\n"},
		{"capabilities of an ordinary container", func(s *specs.Spec) {
			ordinary(s)
			caps := []string{"CAP_KILL", "CAP_CHOWN"}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		}, "grep Cap /proc/self/status", "CapInh:\t0000000000000000\nCapPrm:\t0000000000000021\nCapEff:\t0000000000000021\nCapBnd:\t0000000000000021\nCapAmb:\t0000000000000000\n"},
		{"ambient capabilities of a user", func(s *specs.Spec) {
			ordinary(s)
			s.Process.User = specs.User{UID: 1000, GID: 1000}
			caps := []string{"CAP_NET_BIND_SERVICE"}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps, Ambient: caps}
		}, "grep -E 'CapEff|CapAmb' /proc/self/status", "CapEff:\t0000000000000400\nCapAmb:\t0000000000000400\n"},
		{"sysctl", func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmni": "77"}
		}, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni", "1\n77\n"},
		{"host and domain name", func(s *specs.Spec) { s.Hostname, s.Domainname = "a", "b" }, "hostname; cat /proc/sys/kernel/domainname", "a\nb\n"},
		{"read-only root", func(s *specs.Spec) { s.Root.Readonly = true }, "touch /x 2>/dev/null || echo ro; touch /run/x && echo rw", "ro\nrw\n"},
		{"no files but the first three", nil, "ls /proc/self/fd | head -4", "0\n1\n2\n3\n"},
		{"time namespace", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "time"})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1 << 30}}
		}, "read a b </proc/uptime; [ ${a%.*} -gt 1073741824 ] && echo later", "later\n"},
		{"devices", nil, "for d in null zero full random urandom tty; do stat -c '%a %u:%g %t,%T' /dev/$d; done", "666 0:0 1,3\n666 0:0 1,5\n666 0:0 1,7\n666 0:0 1,8\n666 0:0 1,9\n666 0:0 5,0\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, status := testcontainer.Run(t, c.change, "sh", "-c", c.script)
			if out != c.want || status != 0 {
				t.Errorf("exit status %d, output %q, want %q", status, out, c.want)
			}
		})
	}
}

// TestRefusedAtCreate: nothing is made, and the sentence says what to do.
func TestRefusedAtCreate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*specs.Spec)
		want   string
	}{
		{"the host's network namespace by path", func(s *specs.Spec) { s.Linux.Namespaces[4].Path = "/proc/self/ns/net" }, "namespace of the host"},
		{"a namespace of the wrong kind", func(s *specs.Spec) { s.Linux.Namespaces[1].Path = "/proc/self/ns/user" }, "linux.namespaces[1]"},
		{"no network namespace", func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[:4] }, "network"},
		{"a working directory behind a magic link", func(s *specs.Spec) { s.Process.Cwd = "/proc/self/fd/7" }, "/proc/self/fd/7"},
		{"a mount of a type that there is not", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "nosuchfs", Source: "x"})
		}, "nosuchfs"},
		{"a bind without its source", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/nonexistent", Options: []string{"rbind"}})
		}, "/nonexistent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testcontainer.NewPod(t)
			bundle := testcontainer.Busybox(t, c.change, "true")
			_, err := p.Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			nothingLeft(t, p, bundle)
		})
	}
}

// TestUpdateRefusesTheHost: an update of limits cannot open what Create refuses.
func TestUpdateRefusesTheHost(t *testing.T) {
	t.Parallel()
	p := testcontainer.NewPod(t)
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, nil, "true")})
	for name, r := range map[string]specs.LinuxDeviceCgroup{
		"everything": {Allow: true, Access: "rwm"},
		"disks":      {Allow: true, Type: "b", Access: "r"},
	} {
		err := c.Update(t.Context(), &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{r}})
		var refusal *plan.ValidationError
		if !errors.As(err, &refusal) || refusal.Field != "linux.resources.devices[0]" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOneProcess: a limit of one process lets init in.
func TestOneProcess(t *testing.T) {
	t.Parallel()
	limit := int64(1)
	_, status := testcontainer.Run(t, func(s *specs.Spec) { s.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &limit}} }, "true")
	if status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// TestSeccomp: a profile is in force in init and in what is executed later,
// with and without no_new_privs.
func TestSeccomp(t *testing.T) {
	t.Parallel()
	errno := uint(39) // ENOTEMPTY: nothing else answers mkdir so
	for _, nnp := range []bool{false, true} {
		change := func(s *specs.Spec) {
			s.Process.NoNewPrivileges = nnp
			s.Linux.Seccomp = &specs.LinuxSeccomp{
				DefaultAction: specs.ActAllow,
				Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86},
				Syscalls: []specs.LinuxSyscall{
					{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &errno},
					{Names: []string{"symlink", "symlinkat"}, Action: specs.ActKillProcess},
				},
			}
		}
		script := "mkdir /tmp/x 2>&1 | grep -o 'not empty'; exec 2>/dev/null; ln -s a /tmp/l; echo $?; grep Seccomp: /proc/self/status"
		want := "not empty\n159\nSeccomp:\t2\n"
		p := testcontainer.NewPod(t)
		w, text := testcontainer.Pipe(t)
		bundle := testcontainer.Busybox(t, change, "sleep", "1000")
		if err := os.Symlink("busybox", filepath.Join(bundle, "rootfs/bin/ln")); err != nil {
			t.Fatal(err)
		}
		c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: bundle})
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		proc, err := c.Exec(t.Context(), runtime.ExecRequest{
			Process: &specs.Process{Args: []string{"sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"}, NoNewPrivileges: nnp},
			Stdio:   runtime.Stdio{Stdout: w, Stderr: w},
		})
		if err != nil {
			t.Fatal(err)
		}
		testcontainer.Wait(t, proc)
		if out := text(); out != want {
			t.Errorf("no_new_privs %v, exec: %q, want %q", nnp, out, want)
		}
		out, _ := testcontainer.Run(t, change, "sh", "-c", "mkdir /tmp/x 2>&1 | grep -o 'not empty'")
		if out != "not empty\n" {
			t.Errorf("no_new_privs %v, init: %q", nnp, out)
		}
	}
}

// TestNothingToExecute: what is not there is told of at Create, as callers of other
// runtimes know it, and nothing is left.
func TestNothingToExecute(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ arg, cwd, want string }{
		{"notfound404", "/", `exec: "notfound404": executable file not found in $PATH`},
		{"/no/such", "/", `exec: "/no/such": no such file or directory`},
		{"./sh", "/etc", `exec: "./sh": no such file or directory`},
		{"/etc/passwd", "/", `exec: "/etc/passwd": permission denied`},
		{"./sh", "/bin", ""},
		{"sh", "/", ""},
	} {
		bundle := testcontainer.Busybox(t, func(s *specs.Spec) { s.Process.Cwd = c.cwd }, c.arg, "-c", "true")
		ctr, err := testcontainer.NewPod(t).Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle})
		if err == nil {
			if err := ctr.Delete(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s in %s: error %v, want %q", c.arg, c.cwd, err, c.want)
		}
	}
}

// TestNothingToExecuteAtOnce: an exec that has failed before the first leg could say its pid,
// as happens where others use the processors, is told of in the same words.
func TestNothingToExecuteAtOnce(t *testing.T) {
	t.Parallel()
	c := testcontainer.Started(t, nil, "sleep", "1000")
	c.Pod.Config.Testing.Slow = func(p program.Program) program.Program {
		i := slices.IndexFunc(p, func(c program.Call) bool { return c.Name == "report the pid" })
		if i < 0 {
			t.Error("no step reports the pid")
			return p
		}
		return slices.Insert(p, i, pause(200*time.Millisecond))
	}
	_, err := c.Exec(t.Context(), runtime.ExecRequest{Process: &specs.Process{Args: []string{"notfound404"}, Cwd: "/", Env: []string{"PATH=/usr/bin:/bin"}}})
	if want := `exec: "notfound404": executable file not found in $PATH`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

// TestExecAffinity: an exec begins on the CPUs of initial, before it is in the
// container's cgroup, and runs on those of final.
func TestExecAffinity(t *testing.T) {
	t.Parallel()
	c := testcontainer.Started(t, func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Final: "0"} })
	exec := func(a *specs.CPUAffinity) (string, error) {
		w, text := testcontainer.Pipe(t)
		p, err := c.Exec(t.Context(), runtime.ExecRequest{
			Process: &specs.Process{Args: []string{"/bin/grep", "Cpus_allowed_list", "/proc/self/status"}, Cwd: "/", ExecCPUAffinity: a},
			Stdio:   runtime.Stdio{Stdout: w, Stderr: w},
		})
		if err == nil {
			testcontainer.Wait(t, p)
		}
		return strings.TrimSpace(strings.TrimPrefix(text(), "Cpus_allowed_list:")), err
	}
	for _, a := range []*specs.CPUAffinity{nil, {Initial: "0", Final: "0"}} {
		if got, err := exec(a); got != "0" {
			t.Errorf("%+v: runs on %q, %v", a, got, err)
		}
	}
	// The kernel refuses a list of which no CPU is there: it was asked.
	if _, err := exec(&specs.CPUAffinity{Initial: "8191", Final: "0"}); err == nil || !strings.Contains(err.Error(), "initial cpu affinity") {
		t.Errorf("an initial CPU that is not there: %v", err)
	}
}
