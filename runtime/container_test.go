// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/tests/testcontainer"
)

func TestContainerRuns(t *testing.T) {
	t.Parallel()
	out, status := testcontainer.Run(t, nil, "sh", "-c", "id -u; hostname; echo $HOME; cat /proc/self/uid_map; mount; ls -ln /dev /bin/busybox; ls -l /proc/self/fd; cat /proc/self/status | grep Cap; exit 7")
	t.Log(out)
	if status != 7 {
		t.Errorf("exit status %d, want 7", status)
	}
	for _, want := range []string{"0\nbox\n/root\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the output", want)
		}
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	p := testcontainer.NewPod(t)
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, nil, "sleep", "100")})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	proc, text := c.Executed(t, testcontainer.Command("sh", "-c", "id; echo $HOME; readlink /proc/self/ns/user /proc/1/ns/user; cat /proc/self/cgroup; ls -l /proc/self/fd; exit 3"))
	if got := testcontainer.Wait(t, proc).Status; got != 3 {
		t.Errorf("exit status %d, want 3", got)
	}
	t.Log(text())
	if err := c.Init().Signal(int(unix.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if got := testcontainer.Wait(t, c.Init()).Status; got != 137 {
		t.Errorf("init's exit status %d, want 137", got)
	}
}

// TestProcOfOlderKernels: without the option pidns a helper makes proc, with
// the same result.
func TestProcOfOlderKernels(t *testing.T) {
	t.Parallel()
	p := testcontainer.NewPod(t, func(c *config.Config) { c.Testing.ProcHelper = true })
	out, status := p.Run(t, testcontainer.Busybox(t, nil, "sh", "-c", "echo $$; ls -d /proc/[0-9]*; stat -c %u /proc/1/status; umount /proc || echo locked; unshare -Urpf --mount-proc echo nested"))
	if status != 0 || !strings.HasPrefix(out, "1\n/proc/1\n") || !strings.Contains(out, "locked\nnested\n") {
		t.Errorf("exit status %d, output %q", status, out)
	}
}

// TestProcThatCannotBe: an option that procfs does not know fails a Create, whoever
// makes the proc, and nobody waits for what was made up to there.
func TestProcThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, helper := range []bool{false, true} {
		for range 20 { // two processes tell of it, in any order
			bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
				for i, m := range s.Mounts {
					if m.Type == "proc" {
						s.Mounts[i].Options = []string{"nonsense=1"}
					}
				}
			}, "true")
			p := testcontainer.NewPod(t, func(c *config.Config) { c.Testing.ProcHelper = helper })
			_, err := p.Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle})
			if err == nil || !strings.Contains(err.Error(), "proc") {
				t.Fatalf("error %v, want one of proc", err)
			}
		}
	}
}

// nothingLeft looks for what a pod's only container, which is gone or was refused, could have
// left, in the pod as well.
func nothingLeft(t *testing.T, p *testcontainer.Pod, bundle string) {
	t.Helper()
	testcontainer.NothingLeft(t, p, bundle)
	if p.HasIDs() {
		t.Error("the pod has ids still")
	}
}
