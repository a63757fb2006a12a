// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

const namespace = "sysbox-bench"

// daemon is a containerd of the bench's own, in a folder of its own.
type daemon struct {
	dir    string
	cmd    *exec.Cmd
	client *containerd.Client
	image  containerd.Image
	marks  *marks
	log    *os.File
	ended  chan error
	// release lets go of the thread that started containerd.
	release chan struct{}
}

const config = `version = 3
root = %[1]q
state = %[2]q
# What no container of the bench needs only makes noise.
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images", "io.containerd.nri.v1.nri"]
[grpc]
address = %[3]q
[ttrpc]
address = %[4]q
`

// startDaemon starts containerd, in a mount namespace of its own in which
// nothing is mounted on hide, and loads the image.
func startDaemon(ctx context.Context, o settings, hide string) (_ *daemon, err error) {
	binary, err := lookPath(o.path, "containerd")
	if err != nil {
		return nil, err
	}
	d := &daemon{ended: make(chan error, 1), release: make(chan struct{})}
	if d.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	at := func(name string) string { return filepath.Join(d.dir, name) }
	files := map[string]string{
		"containerd.toml": fmt.Sprintf(config, at("root"), at("state"), at("c.sock"), at("c.sock.ttrpc")),
		"sysbox.toml":     fmt.Sprintf("state_dir = %q\ndata_dir = %q\n", at("sysbox-run"), at("sysbox-lib")),
	}
	for name, text := range files {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	d.cmd = exec.Command(binary, "--config", at("containerd.toml"))
	d.cmd.Env = append(os.Environ(), "PATH="+o.path, "SYSBOX_CONFIG_FILE="+at("sysbox.toml"))
	// Its own group: an interrupt on the terminal is for the bench, which then
	// ends its containers first.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	out, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	var keep io.Writer = io.Discard
	if o.log != "" {
		if d.log, err = os.OpenFile(o.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return nil, err
		}
		keep = d.log
	}
	if err := inPrivate(d.release, func() error {
		if hide != "" {
			if err := syscall.Unmount(hide, syscall.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", hide, err)
			}
		}
		return d.cmd.Start()
	}); err != nil {
		d.cmd = nil
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	d.marks = readMarks(out, keep)
	go func() {
		<-d.marks.end // Wait closes the pipe, so that all of it must have been read
		d.ended <- d.cmd.Wait()
	}()
	if d.client, err = containerd.New(at("c.sock"), containerd.WithDefaultNamespace(namespace), containerd.WithTimeout(time.Minute)); err != nil {
		return nil, fmt.Errorf("connect to containerd: %w; its last words: %s", err, d.marks.tail())
	}
	// The socket is there a moment before anybody listens, and then a call is refused.
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := d.client.IsServing(ready); err != nil {
		return nil, fmt.Errorf("containerd does not serve: %w; its last words: %s", err, d.marks.tail())
	}
	ctx = namespaces.WithNamespace(ctx, namespace)
	if err := d.loadImage(ctx); err != nil {
		return nil, fmt.Errorf("load the image: %w", err)
	}
	return d, d.watchEvents()
}

// close ends containerd and removes its folder. Containers are gone by then:
// whoever made one removed it.
func (d *daemon) close() error {
	if d.client != nil {
		d.client.Close()
	}
	if d.cmd != nil {
		// An error means that it has ended already.
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		<-d.ended
	}
	close(d.release)
	if d.log != nil {
		d.log.Close()
	}
	// containerd puts each container's cgroup below one of the namespace's
	// name, which nobody removes. It stays if another bench is using it.
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		left, _ := filepath.Glob(pattern + namespace)
		for _, dir := range left {
			_ = os.Remove(dir)
		}
	}
	return os.RemoveAll(d.dir)
}
