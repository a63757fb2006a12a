// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestLifecycle(t *testing.T) {
	all(t, func(t *testing.T, h *host) {
		out, status := h.run(t, "id -u; cat /proc/self/uid_map; exit 7")
		if status != 7 || !strings.HasPrefix(out, "0\n") || strings.Contains(out, "4294967295") {
			t.Errorf("exit status %d, output %q", status, out)
		}
	})
}

func TestBinaryNotFound(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		ctx := background(t)
		c := h.container(t, h.busybox, oci.WithProcessArgs("nonesuch"))
		task, err := c.NewTask(ctx, cio.NullIO)
		if err == nil {
			err = task.Start(ctx)
		}
		if err == nil || !strings.Contains(err.Error(), `"nonesuch": executable file not found in $PATH`) {
			t.Errorf("error %v", err)
		}
	})
}

func TestExec(t *testing.T) {
	all(t, func(t *testing.T, h *host) {
		task, _ := h.sleeper(t)
		for _, c := range []struct {
			name   string
			change func(*specs.Process)
			args   []string
			out    string
			status uint32
		}{
			{"exit code", nil, []string{"sh", "-c", "exit 3"}, "", 3},
			{"output", nil, []string{"echo", "hello"}, "hello\n", 0},
			{"environment", func(p *specs.Process) { p.Env = append(p.Env, "A=b") }, []string{"sh", "-c", "echo $A"}, "b\n", 0},
			{"working directory", func(p *specs.Process) { p.Cwd = "/proc" }, []string{"pwd"}, "/proc\n", 0},
			{"user", func(p *specs.Process) { p.User.UID, p.User.GID = 1000, 1000 }, []string{"sh", "-c", "id -u; id -g; echo $HOME"}, "1000\n1000\n/home/user\n", 0},
			{"killed", nil, []string{"sh", "-c", "kill -9 $$"}, "", 137},
		} {
			if out, status := h.exec(t, task, c.change, c.args...); out != c.out || status != c.status {
				t.Errorf("%s: exit status %d, output %q; want %d, %q", c.name, status, out, c.status, c.out)
			}
		}
		if out, _ := h.exec(t, task, nil, "nonesuch"); !strings.Contains(out, "executable file not found") {
			t.Errorf("a command that there is not: %q", out)
		}
	})
}

func TestStdin(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		ctx := background(t)
		var out output
		in := strings.NewReader(strings.Repeat("0123456789abcdef", 1<<14))
		c := h.container(t, h.busybox, oci.WithProcessArgs("wc", "-c"))
		task, err := c.NewTask(ctx, cio.NewCreator(cio.WithStreams(in, &out, &out)))
		if err != nil {
			t.Fatal(err)
		}
		exit := started(t, task)
		for in.Len() > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if err := task.CloseIO(ctx, containerd.WithStdinCloser); err != nil {
			t.Fatal(err)
		}
		if status := wait(t, exit); status != 0 {
			t.Errorf("exit status %d", status)
		}
		task.IO().Wait()
		if strings.TrimSpace(out.String()) != "262144" {
			t.Errorf("wc saw %q", out.String())
		}
	})
}

func TestTerminal(t *testing.T) {
	all(t, func(t *testing.T, h *host) {
		ctx := background(t)
		var out output
		c := h.container(t, h.busybox, oci.WithTTY, oci.WithProcessArgs("sh", "-c", "tty; until [ \"$(stty size 2>/dev/null)\" = '33 101' ]; do sleep 0.05; done; stty size; ls -l /dev/console | cut -c1"))
		task, err := c.NewTask(ctx, cio.NewCreator(cio.WithStreams(nil, &out, nil), cio.WithTerminal))
		if err != nil {
			t.Fatal(err)
		}
		exit := started(t, task)
		if err := task.Resize(ctx, 101, 33); err != nil {
			t.Fatal(err)
		}
		wait(t, exit)
		task.IO().Wait()
		if got := strings.ReplaceAll(out.String(), "\r", ""); got != "/dev/pts/0\n33 101\nc\n" {
			t.Errorf("output %q", got)
		}
	})
}

func TestSignals(t *testing.T) {
	all(t, func(t *testing.T, h *host) {
		c := h.container(t, h.busybox, oci.WithProcessArgs("sh", "-c", "trap 'exit 9' USR1; echo set; while :; do sleep 0.1; done"))
		var out output
		task, exit := h.task(t, c, out.creator())
		until(t, "the trap is set", func() bool { return out.String() == "set\n" })
		if status := kill(t, task, exit, syscall.SIGUSR1); status != 9 {
			t.Errorf("exit status %d, want 9", status)
		}
		if err := task.Kill(background(t), syscall.SIGKILL); !errdefs.IsNotFound(err) {
			t.Errorf("kill of a process that has ended: %v", err)
		}
		task, exit = h.sleeper(t)
		if status := kill(t, task, exit, syscall.SIGKILL, containerd.WithKillAll); status != 137 {
			t.Errorf("exit status %d, want 137", status)
		}
	})
}

func TestPause(t *testing.T) {
	all(t, func(t *testing.T, h *host) {
		ctx := background(t)
		dir := t.TempDir()
		log := filepath.Join(dir, "log")
		task, _ := h.task(t, h.container(t, h.busybox, oci.WithProcessArgs("sh", "-c", "while :; do echo >>/data/log; usleep 1000; done"),
			oci.WithMounts([]specs.Mount{{Destination: "/data", Type: "bind", Source: dir, Options: []string{"rbind"}}})), cio.NullIO)
		size := func() int64 {
			info, err := os.Stat(log)
			if err != nil {
				return 0
			}
			return info.Size()
		}
		grows := func() bool { // within a minute
			before := size()
			for end := time.Now().Add(time.Minute * patience()); size() == before; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					return false
				}
			}
			return true
		}
		if !grows() {
			t.Error("the container does nothing")
		}
		for _, c := range []struct {
			do   func() error
			want containerd.ProcessStatus
		}{
			{func() error { return task.Pause(ctx) }, containerd.Paused},
			{func() error { return task.Resume(ctx) }, containerd.Running},
		} {
			if err := c.do(); err != nil {
				t.Fatal(err)
			}
			if s, err := task.Status(ctx); err != nil || s.Status != c.want {
				t.Errorf("status %v, %v; want %s", s.Status, err, c.want)
			}
			if c.want == containerd.Running {
				if !grows() {
					t.Error("it does not go on")
				}
				continue
			}
			until(t, "its log grows no more", func() bool { // what it wrote before is on its way
				before := size()
				time.Sleep(200 * time.Millisecond)
				return size() == before
			})
		}
	})
}

func TestLimits(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		ctx := background(t)
		stream, errs := h.subscribe(ctx, t, `topic=="/tasks/oom"`)
		c := h.container(t, h.busybox, oci.WithMemoryLimit(32<<20), oci.WithPidsLimit(20),
			oci.WithProcessArgs("sh", "-c", "tail /dev/zero"))
		_, exit := h.task(t, c, cio.NullIO)
		wait(t, exit)
		select {
		case e := <-stream:
			v, err := typeurl.UnmarshalAny(e.Event)
			if oom, ok := v.(*events.TaskOOM); err != nil || !ok || oom.ContainerID != c.ID() {
				t.Errorf("event %v, %v", v, err)
			}
		case err := <-errs:
			t.Error(err)
		case <-time.After(20 * time.Second * patience()):
			t.Error("no event told of the OOM kill")
		}
		out, _ := h.run(t, "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; echo all", oci.WithPidsLimit(10))
		if !strings.Contains(out, "can't fork") {
			t.Errorf("40 processes in a limit of 10: %q", out)
		}
	})
}

func TestMetricsAndUpdate(t *testing.T) {
	all(t, func(t *testing.T, h *host) {
		ctx := background(t)
		task, _ := h.sleeper(t)
		m, err := task.Metrics(ctx)
		if err != nil || !strings.Contains(m.Data.GetTypeUrl(), "io.containerd.cgroups.v") {
			t.Errorf("metrics %v, %v", m, err)
		}
		limit := int64(64 << 20)
		if err := task.Update(ctx, containerd.WithResources(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})); err != nil {
			t.Error(err)
		}
		pids, err := task.Pids(ctx)
		if err != nil || len(pids) != 1 || pids[0].Pid != task.Pid() {
			t.Errorf("pids %v, %v; want %d", pids, err, task.Pid())
		}
	})
}

// TestEventOrder: init's exit is the last, also of a container whose processes
// end before anybody looks.
func TestEventOrder(t *testing.T) {
	all(t, func(t *testing.T, h *host) {
		ctx := background(t)
		stream, _ := h.subscribe(ctx, t, `topic~="/tasks/"`)
		c := h.container(t, h.busybox, oci.WithProcessArgs("true"))
		task, exit := h.task(t, c, cio.NullIO)
		wait(t, exit)
		if _, err := task.Delete(ctx); err != nil {
			t.Fatal(err)
		}
		var got []string
		for len(got) < 4 {
			select {
			case e := <-stream:
				got = append(got, e.Topic)
			case <-time.After(10 * time.Second * patience()):
				t.Fatalf("events %v, and no more", got)
			}
		}
		if s := strings.Join(got, " "); s != "/tasks/create /tasks/start /tasks/exit /tasks/delete" {
			t.Errorf("events %s", s)
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if out, status := h.run(t, "echo x"); out != "x\n" || status != 0 {
					t.Errorf("exit status %d, output %q", status, out)
				}
			})
		}
		wg.Wait()
	})
}

func TestLogFile(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		log := filepath.Join(t.TempDir(), "new", "log")
		c := h.container(t, h.busybox, oci.WithProcessArgs("sh", "-c", "echo out; echo err >&2"))
		task, exit := h.task(t, c, cio.LogFile(log))
		wait(t, exit)
		// An exit is told when it happens; all output is there when Delete has returned.
		if _, err := task.Delete(background(t)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(log); err != nil || string(b) != "out\nerr\n" {
			t.Errorf("log %q, %v", b, err)
		}
	})
}

func TestLogBinary(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		dir := t.TempDir()
		logger := filepath.Join(dir, "logger")
		script := fmt.Sprintf("#!/bin/sh\necho $CONTAINER_NAMESPACE >%[1]s/ns\nexec 5>&-\ncat <&3 >%[1]s/out\n", dir)
		if err := os.WriteFile(logger, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		c := h.container(t, h.busybox, oci.WithProcessArgs("echo", "logged"))
		task, exit := h.task(t, c, cio.BinaryIO(logger, nil))
		wait(t, exit)
		if _, err := task.Delete(background(t)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || string(b) != "logged\n" {
			t.Errorf("log %q, %v", b, err)
		}
	})
}

// TestRestart: containerd goes and comes back; the container has not noticed.
func TestRestart(t *testing.T) {
	all(t, func(t *testing.T, h *host) {
		task, _ := h.sleeper(t)
		id := task.ID()
		if err := h.Restart(background(t)); err != nil {
			t.Fatal(err)
		}
		ctx := background(t)
		image, err := h.Client.GetImage(ctx, h.busybox.Name())
		if err != nil {
			t.Fatal(err)
		}
		h.busybox = image
		c, err := h.Client.LoadContainer(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.Task(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if again.Pid() != task.Pid() {
			t.Errorf("pid %d, was %d", again.Pid(), task.Pid())
		}
		if out, status := h.exec(t, again, nil, "echo", "still here"); out != "still here\n" || status != 0 {
			t.Errorf("exec: %q, %d", out, status)
		}
	})
}

// TestKilledShim: kill -9 of the shim ends the container, and containerd's
// clean-up by our delete command leaves nothing.
func TestKilledShim(t *testing.T) {
	all(t, func(t *testing.T, h *host) {
		task, _ := h.sleeper(t)
		shims := h.Shims()
		if len(shims) != 1 {
			t.Fatalf("shims %v", shims)
		}
		if err := syscall.Kill(shims[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(20 * time.Second * patience())
		for syscall.Kill(int(task.Pid()), 0) == nil && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
		}
		if err := syscall.Kill(int(task.Pid()), 0); err == nil {
			t.Error("the container's init lives on")
		}
	})
}
