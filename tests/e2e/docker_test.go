// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

// engine is a private dockerd on a containerd of ours.
type engine struct {
	dir string
	env []string
	cmd *exec.Cmd
	end chan error
}

// dockerd starts one, which ends with the test. Containers are made with a runtime's name.
func dockerd(t *testing.T, h *host, config, runtime string) *engine {
	t.Helper()
	path := os.Getenv("PATH")
	for _, build := range []func() (string, error){peers.Runc, peers.Docker} { // its builder demands a runc
		dir, err := build()
		if err != nil {
			t.Fatal(err)
		}
		path = dir + ":" + path
	}
	dir, err := os.MkdirTemp("", "dockerd-")
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{dir: dir, end: make(chan error, 1), env: append(os.Environ(), "PATH="+path,
		"DOCKER_HOST=unix://"+dir+"/socket", "DOCKER_CONFIG="+dir, "D="+dir, "R="+runtime, "RUN=docker run --rm --runtime "+runtime)}
	t.Cleanup(func() { e.stop(t) })
	if err := os.WriteFile(dir+"/daemon.json", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	e.start(t, h)
	return e
}

// start starts dockerd and waits until it answers.
func (e *engine) start(t *testing.T, h *host) {
	t.Helper()
	log, err := os.OpenFile(e.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := e.command("exec dockerd --config-file $D/daemon.json -H $DOCKER_HOST -p $D/pid --data-root $D/data --exec-root $D/exec --containerd " + h.Socket())
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e.cmd = cmd
	go func() { e.end <- cmd.Wait() }()
	onHost(t, "ip link set lo up") // for what is published
	for deadline := time.Now().Add(time.Minute * patience()); ; time.Sleep(100 * time.Millisecond) {
		if _, err := e.sh(t, "docker version"); err == nil {
			return
		}
		if len(e.end) > 0 || time.Now().After(deadline) {
			t.Fatal("dockerd does not answer")
		}
	}
}

// restart kills dockerd and starts another in its place.
func (e *engine) restart(t *testing.T, h *host) {
	t.Helper()
	if err := e.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-e.end
	if err := os.Remove(e.dir + "/pid"); err != nil {
		t.Fatal(err)
	}
	e.start(t, h)
}

func (e *engine) stop(t *testing.T) {
	if e.cmd != nil {
		_ = e.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-e.end:
		case <-time.After(time.Minute * patience()):
			t.Error("dockerd does not end")
			_ = e.cmd.Process.Kill()
			<-e.end
		}
	}
	if t.Failed() {
		b, err := os.ReadFile(e.dir + "/log")
		t.Logf("dockerd's log ends (%v):\n%s", err, b[max(0, len(b)-8000):])
	}
	// What dockerd leaves for its next start.
	out, err := exec.Command("sh", "-c", "umount -l "+e.dir+"/exec/netns/default; ip link del docker0").CombinedOutput()
	if err := errors.Join(err, os.RemoveAll(e.dir)); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func (e *engine) command(script string) *exec.Cmd {
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = e.env
	return cmd
}

func (e *engine) sh(t *testing.T, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute*patience())
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Env = e.env
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// TestDockerAsCaller runs containers by Docker, in the two ways that it can be told of the
// runtime, with both of its ways to store images.
func TestDockerAsCaller(t *testing.T) {
	t.Run("by name, containerd's snapshotter", func(t *testing.T) {
		h := on(t, peers.Newest)
		docker(t, dockerd(t, h, `{}`, harness.Runtime), asCaller)
	})
	t.Run("by daemon.json, overlay2", func(t *testing.T) {
		h := on(t, peers.OldStart)
		config := filepath.Join(t.TempDir(), "sysbox.toml")
		text := fmt.Sprintf("state_dir = %q\ndata_dir = %q\n[ids]\nrange_size = 131072\n", h.StateDir(), h.DataDir())
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		daemon := fmt.Sprintf(`{"features": {"containerd-snapshotter": false}, "storage-driver": "overlay2", "default-runtime": "sysbox",
			"runtimes": {"sysbox": {"runtimeType": %q, "options": {"ConfigPath": %q}}}}`, harness.Runtime, config)
		docker(t, dockerd(t, h, daemon, "sysbox"), slices.Concat(asCaller, []row{
			{name: "its own configuration", script: "$RUN busybox:test awk '{print $3}' /proc/self/uid_map", want: "131072"},
			{name: "overlay2", script: "docker info --format '{{.Driver}} {{.DefaultRuntime}}'", want: "overlay2 sysbox"},
			{name: "build with the default runtime", script: file("caller-default-runtime-build.sh"), status: 1, want: "shifted\n0\nls: /etc/group: No such file or directory"},
		}))
	})
}

func docker(t *testing.T, e *engine, rows []row) {
	t.Helper()
	archive, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := e.sh(t, "docker load -q -i "+archive); err != nil {
		t.Fatalf("docker load: %v\n%s", err, out)
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			out, err := e.sh(t, r.script)
			status := uint32(0)
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				status = uint32(exit.ExitCode())
			}
			// What is refused is followed by a hint at --help.
			if status != r.status || !strings.HasSuffix(out, r.want) && (status != 125 || !strings.Contains(out, r.want)) {
				t.Errorf("exit status %d, want %d; output:\n%s\nwant at its end: %s", status, r.status, out, r.want)
			}
		})
	}
	if out, _ := e.sh(t, "docker ps -aq; docker volume ls -q"); out != "" {
		t.Errorf("left: %s", out)
	}
}

var asCaller = []row{
	{name: "run", script: "$RUN busybox:test sh -c 'id -u; awk \"{print \\$1, (\\$2 > 65536)}\" /proc/self/uid_map'", want: "0\n0 1"},
	{name: "user, folder, name, limits", script: file("caller-process.sh"), want: "1000 /tmp b hh 1000 99 32"},
	{name: "an exit status", script: "$RUN busybox:test sh -c 'exit 7'", status: 7},
	{name: "no such program", script: "$RUN busybox:test nosuch", status: 127, want: "Run 'docker run --help' for more information"},

	{name: "bridge", script: file("caller-bridge.sh"), want: "172.17.0\n1 packets received"},
	{name: "names on a network", script: file("caller-network.sh"), want: "pong"},
	{name: "a published port", script: file("caller-port.sh"), want: "pong"},
	{name: "the container's root has its network", script: "$RUN busybox:test sh -c 'ip link add b0 type bridge && ip link show b0 | grep -o b0:'", want: "b0:"},
	{name: "another container's network", script: file("caller-joins-network.sh"), want: "172.17.0"},
	{name: "another container's message queues", script: file("caller-joins-ipc.sh"), want: "of-one"},
	{name: "no network", script: "$RUN --net none busybox:test sh -c 'ls /sys/class/net'", want: "lo"},

	{name: "life", script: file("caller-life.sh"), want: "paused\n7 exited\nx\nhello\nbye\nhello"},
	{name: "restart, top, stats, rm", script: file("caller-restart.sh"), want: "1\n1"},
	{name: "cp", script: file("caller-cp.sh"), want: "out\n0:0\n5:6"},
	{name: "diff, commit", script: file("caller-diff.sh"), want: "A /in\nD /etc/group\nout"},
	{name: "a bind and a volume", script: file("caller-volumes.sh"), want: "0\n0\nv\n0"},
	{name: "a terminal", script: file("caller-terminal.sh"), want: "/dev/pts/0\n33 99"},
	{name: "stdin", script: "echo word | $RUN -i busybox:test cat", want: "word"},
	{name: "a memory limit", script: file("caller-memory.sh"), want: "65536\n98304"},
	{name: "out of memory", script: file("caller-oom.sh"), want: "true 137"},
	{name: "a read-only root", script: "$RUN --read-only busybox:test touch /x", status: 1, want: "touch: /x: Read-only file system"},
	{name: "a device", script: "$RUN --device /dev/fuse busybox:test sh -c 'stat -c %u:%g /dev/fuse; : </dev/fuse && echo opens'", want: "0:0\nopens"},

	{name: "refused: --privileged", script: "$RUN --privileged busybox:test true", status: 125, want: "if --privileged added it, drop --privileged"},
	{name: "refused: --net=host", script: "$RUN --net=host busybox:test true", status: 125, want: "remove --net=host"},
	{name: "refused: --pid=host", script: "$RUN --pid=host busybox:test true", status: 125, want: "remove --pid=host"},
	{name: "refused: --ipc=host", script: "$RUN --ipc=host busybox:test true", status: 125, want: "remove --ipc=host"},
	{name: "refused: --uts=host", script: "$RUN --uts=host busybox:test true", status: 125, want: "remove --uts=host"},
	{name: "refused: shared propagation", script: "$RUN -v /tmp:/x:rshared busybox:test true", status: 125, want: "use rslave"},
}
