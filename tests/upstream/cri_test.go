// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sysbox/tests/harness"
	"sysbox/tests/pace"
	"sysbox/tests/peers"
)

// handler names the runtime of the CRI suite: "runc" tells which failures are those of
// the images and the machine.
const handler = "TEST_UPSTREAM_HANDLER"

// TestCRI runs the suite of kubelet's interface against a containerd, which the suite
// kills now and then.
func TestCRI(t *testing.T) {
	dir := t.TempDir()
	folder, env := prepare(t, peers.CRI, dir)
	d := &daemon{t: t, dir: dir, env: env, done: make(chan struct{})}
	d.configure()
	d.fakeDocker()
	t.Cleanup(d.stop)
	go d.keep()
	client := d.client()
	t.Cleanup(func() { removePods(t, client) })
	name := os.Getenv(handler)
	if name == "" {
		name = harness.Handler
	}
	suite{
		name: "CRI", version: peers.OldStart, folder: folder, expectations: ofCRI, env: env,
		args: []string{"-cri-endpoint=unix://" + d.socket(), "-cri-root=" + filepath.Join(dir, "root", "io.containerd.grpc.v1.cri"), "-runtime-handler=" + name, "-test.timeout=10m"},
	}.run(t)
}

// daemon is a containerd that is started again when it is killed.
type daemon struct {
	t       *testing.T
	dir     string
	env     []string
	stopped context.Context
	cancel  context.CancelFunc
	done    chan struct{}
}

func (d *daemon) socket() string { return d.dir + "/c.sock" }

func (d *daemon) configure() {
	d.t.Helper()
	d.stopped, d.cancel = context.WithCancel(context.Background())
	plugins, err := peers.CNI()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := harness.PodHost(); err != nil {
		d.t.Fatal(err)
	}
	config := "version = 2\nroot = \"" + d.dir + "/root\"\nstate = \"" + d.dir + "/state\"\n[grpc]\naddress = \"" + d.socket() + "\"\n[ttrpc]\naddress = \"" + d.socket() + ".ttrpc\"\n" +
		harness.CRIConfig(peers.OldStart, host+"/pause:3.8", plugins, d.dir+"/net.d", `drain_exec_sync_io_timeout = "10s"`) +
		"[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n" +
		"[plugins.\"io.containerd.nri.v1.nri\"]\ndisable = false\nsocket_path = \"/run/nri-test.sock\"\nplugin_path = \"/no/plugins\"\nconfig_file = \"" + d.dir + "/nri.conf\"\n"
	for name, text := range map[string]string{
		"config.toml":         config,
		"nri.conf":            "disableConnections: false\n",
		"net.d/pods.conflist": harness.Network("10.88.0.0/16"),
	} {
		err := os.MkdirAll(filepath.Dir(filepath.Join(d.dir, name)), 0o700)
		if err == nil {
			err = os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600)
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}
}

// fakeDocker puts first in the PATH what the suite wants of Docker: an archive of an image.
func (d *daemon) fakeDocker() {
	d.t.Helper()
	bin := d.t.TempDir()
	script := "#!/bin/sh\nset -e\nctr=\"ctr -a " + d.socket() + " -n docker images\"\ncase $1 in\npull) $ctr pull --plain-http $2 ;;\nsave) $ctr export --platform linux/amd64 $4 $2 ;;\nesac\n"
	if err := os.WriteFile(bin+"/docker", []byte(script), 0o755); err != nil {
		d.t.Fatal(err)
	}
	for i, v := range d.env {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			d.env[i] = "PATH=" + bin + ":" + path
		}
	}
}

// keep runs containerd until stop. The suite looks once a second whether its victim has
// ended, and has to see it.
func (d *daemon) keep() {
	defer close(d.done)
	bin, err := peers.Containerd(peers.OldStart)
	if err != nil {
		d.t.Error(err)
		return
	}
	log, err := os.Create(d.dir + "/log")
	if err != nil {
		d.t.Error(err)
		return
	}
	defer log.Close()
	for d.stopped.Err() == nil {
		cmd := exec.CommandContext(d.stopped, bin+"/containerd", "-c", d.dir+"/config.toml")
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 20 * time.Second
		cmd.Env, cmd.Stdout, cmd.Stderr = d.env, log, log
		if err := cmd.Start(); err != nil {
			d.t.Error(err)
			return
		}
		_ = cmd.Wait() // however it ends, it is started again
		select {
		case <-d.stopped.Done():
		case <-time.After(2 * time.Second):
		}
	}
}

func (d *daemon) stop() {
	d.cancel()
	<-d.done
	if b, err := os.ReadFile(d.dir + "/log"); err == nil && os.Getenv("TEST_UPSTREAM_LOG") != "" {
		_ = os.WriteFile(os.Getenv("TEST_UPSTREAM_LOG")+".containerd", b, 0o600)
	}
}

// client waits until containerd answers.
func (d *daemon) client() cri.RuntimeServiceClient {
	d.t.Helper()
	conn, err := grpc.NewClient("unix://"+d.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		d.t.Fatal(err)
	}
	client := cri.NewRuntimeServiceClient(conn)
	for deadline := time.Now().Add(time.Minute * pace.Patience()); ; time.Sleep(50 * time.Millisecond) {
		_, err := client.Version(d.t.Context(), &cri.VersionRequest{})
		if err == nil {
			return client
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(d.dir + "/log")
			d.t.Fatalf("containerd does not answer: %v\n%s", err, log)
		}
	}
}

// removePods removes what tests that fail leave.
func removePods(t *testing.T, client cri.RuntimeServiceClient) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute*pace.Patience())
	defer cancel()
	r, err := client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Error(err)
		return
	}
	for _, pod := range r.Items {
		if _, err := client.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
			t.Errorf("stop the pod %s: %v", pod.Metadata.Name, err)
		}
		if _, err := client.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
			t.Errorf("remove the pod %s: %v", pod.Metadata.Name, err)
		}
	}
}
