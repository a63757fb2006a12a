// SPDX-License-Identifier: Apache-2.0

// Package harness runs a private containerd for tests and the demo: its own
// folders, sockets and configuration, the shim first in its PATH.
//
// What does not belong here: making what it runs (packages peers and images),
// and looking for what was left behind (package leak).
package harness

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
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"sysbox/tests/pace"
	"sysbox/tests/peers"
)

// Runtime is the name by which containerd knows the shim.
const Runtime = "io.containerd.sysbox.v1"

// Namespace is the containerd namespace that the harness uses.
const Namespace = "sysbox-test"

// Containerd is a running private containerd.
type Containerd struct {
	Version string
	Dir     string // of everything it has
	Client  *containerd.Client

	bin     string
	shim    string // the directory with the shim
	cmd     *exec.Cmd
	end     chan error
	starts  int          // of containerd
	dismiss func() error // of the guard
}

// Start starts containerd of a version, without its CRI plugins, and waits until it
// answers.
func Start(ctx context.Context, version string) (*Containerd, error) {
	shim, err := peers.Shim()
	if err != nil {
		return nil, err
	}
	return StartShim(ctx, version, shim)
}

// StartShim is Start with the shim of a directory, where it may be replaced while
// containers run.
func StartShim(ctx context.Context, version, dir string) (*Containerd, error) {
	return start(ctx, version, dir, `disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images", "io.containerd.nri.v1.nri"]`, "", nil)
}

// start starts containerd with the shim of a directory, and lines at the beginning and at the end of its
// configuration, and with files in its folder by their names; in all of them DIR is
// that folder.
func start(ctx context.Context, version, shim, first, last string, files map[string]string) (*Containerd, error) {
	bin, err := peers.Containerd(version)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sysbox-")
	if err != nil {
		return nil, err
	}
	c := &Containerd{Version: version, Dir: dir, bin: bin, shim: shim}
	if err := c.watchOver(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	for name, text := range files {
		err := os.MkdirAll(filepath.Dir(c.path(name)), 0o700)
		if err == nil {
			err = os.WriteFile(c.path(name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600)
		}
		if err != nil {
			return nil, errors.Join(err, c.Stop())
		}
	}
	format := 3
	if strings.HasPrefix(version, "1.") {
		format = 2
	}
	config := fmt.Sprintf("version = %d\nroot = %q\nstate = %q\n%s\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n%s",
		format, c.path("root"), c.path("state"), first, c.Socket(), c.Socket()+".ttrpc", strings.ReplaceAll(last, "DIR", dir))
	if err := os.WriteFile(c.path("config.toml"), []byte(config), 0o600); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	sysbox := fmt.Sprintf("state_dir = %q\ndata_dir = %q\n", c.StateDir(), c.DataDir())
	if err := os.WriteFile(c.path("sysbox.toml"), []byte(sysbox), 0o600); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	if err := c.run(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Containerd) path(name string) string { return filepath.Join(c.Dir, name) }

// Socket is its gRPC socket.
func (c *Containerd) Socket() string { return c.path("c.sock") }

// StateDir and DataDir are the shim's folders.
func (c *Containerd) StateDir() string { return c.path("run") }

// DataDir is the shim's folder for storage and journals.
func (c *Containerd) DataDir() string { return c.path("lib") }

// Ctr is a ctr command for this containerd.
func (c *Containerd) Ctr(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(c.bin, "ctr"), append([]string{"-a", c.Socket(), "-n", Namespace}, args...)...)
}

func (c *Containerd) run(ctx context.Context) error {
	log, err := os.OpenFile(c.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	env := []string{"PATH=" + c.shim + ":" + c.bin + ":" + os.Getenv("PATH"), "SYSBOX_CONFIG_FILE=" + c.path("sysbox.toml")}
	c.starts++
	if Machine() {
		c.cmd = c.service(env)
	} else {
		c.cmd = exec.Command(filepath.Join(c.bin, "containerd"), "-c", c.path("config.toml"))
		c.cmd.Env = append(os.Environ(), env...)
	}
	c.cmd.Stdout, c.cmd.Stderr = log, log
	// Its own group, so that an interrupt at the terminal is ours to handle.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.end = make(chan error, 1)
	go func() { c.end <- c.cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, time.Minute*pace.Patience())
	defer cancel()
	if c.Client, err = containerd.New(c.Socket(), containerd.WithDefaultNamespace(Namespace), containerd.WithTimeout(time.Minute)); err != nil {
		return fmt.Errorf("connect to containerd %s: %w\n%s", c.Version, err, c.Log())
	}
	for {
		if _, err = c.Client.Version(ctx); err == nil {
			return nil
		}
		select {
		case end := <-c.end:
			c.end <- end
			return fmt.Errorf("containerd %s ended: %w\n%s", c.Version, end, c.Log())
		case <-ctx.Done():
			return fmt.Errorf("containerd %s does not answer: %w\n%s", c.Version, err, c.Log())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Restart ends containerd, as an upgrade would, and starts it again; shims
// live on.
func (c *Containerd) Restart(ctx context.Context) error {
	c.halt()
	return c.Resume(ctx)
}

// Upgrade ends containerd and starts another version on the same folders; shims live on.
func (c *Containerd) Upgrade(ctx context.Context, version string) error {
	bin, err := peers.Containerd(version)
	if err != nil {
		return err
	}
	c.halt()
	c.bin, c.Version = bin, version
	return c.Resume(ctx)
}

// Kill ends containerd as a crash would; shims live on.
func (c *Containerd) Kill() {
	c.signal(syscall.SIGKILL)
	c.halt()
}

// Resume starts containerd again after Kill.
func (c *Containerd) Resume(ctx context.Context) error { return c.run(ctx) }

// Delete runs the shim's delete command for a container, as containerd does
// after a shim's death.
func (c *Containerd) Delete(ctx context.Context, id string) error {
	bundle := filepath.Join(c.path("state"), "io.containerd.runtime.v2.task", Namespace, id)
	cmd := exec.CommandContext(ctx, filepath.Join(c.shim, "containerd-shim-sysbox-v1"), "-namespace", Namespace, "-id", id, "-address", c.Socket(), "-bundle", bundle, "delete")
	cmd.Dir = bundle
	cmd.Env = append(os.Environ(), "SYSBOX_CONFIG_FILE="+c.path("sysbox.toml"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the delete command of %s: %w\n%s", id, err, out)
	}
	return nil
}

// Reclaim runs the shim's reclaim command, as an administrator does for what nobody has
// deleted.
func (c *Containerd) Reclaim(ctx context.Context) error {
	shim, err := peers.Shim()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(shim, "containerd-shim-sysbox-v1"), "reclaim")
	cmd.Env = append(os.Environ(), "SYSBOX_CONFIG_FILE="+c.path("sysbox.toml"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the reclaim command: %w\n%s", err, out)
	}
	return nil
}

func (c *Containerd) halt() {
	if c.Client != nil {
		c.Client.Close()
		c.Client = nil
	}
	if c.cmd == nil || c.cmd.Process == nil {
		return
	}
	c.signal(syscall.SIGTERM)
	select {
	case <-c.end:
	case <-time.After(20 * time.Second * pace.Patience()):
		c.signal(syscall.SIGKILL)
		<-c.end
	}
	c.cmd = nil
}

// Load imports an image's archive and unpacks it.
func (c *Containerd) Load(ctx context.Context, archive string) (containerd.Image, error) {
	return c.load(namespaces.WithNamespace(ctx, Namespace), archive)
}

func (c *Containerd) load(ctx context.Context, archive string) (containerd.Image, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := c.Client.Import(ctx, f)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("%s has %d images, want 1", archive, len(list))
	}
	image := containerd.NewImage(c.Client, list[0])
	return image, image.Unpack(ctx, "overlayfs")
}

// Shims are the pids of the shims of this containerd.
func (c *Containerd) Shims() []int {
	return processes(func(args []string) bool {
		return strings.Contains(args[0], "containerd-shim-") && slices.Contains(args, c.Socket())
	})
}

// daemons are the pids of its containerd, of which there is one at most.
func (c *Containerd) daemons() []int {
	return processes(func(args []string) bool { return slices.Contains(args, c.path("config.toml")) })
}

// Log is the end of what containerd and the shims wrote.
func (c *Containerd) Log() string {
	b, err := os.ReadFile(c.path("log"))
	if err != nil {
		return err.Error()
	}
	log := string(b)
	for _, crash := range []string{"\npanic: ", "\nfatal error: ", "\nSIG"} {
		if at := strings.LastIndex(log, crash); at >= 0 {
			return log[at:min(len(log), at+8000)]
		}
	}
	return log[max(0, len(log)-8000):]
}

// KeepLog copies the whole log, which Stop removes, into logs of the cache, for the test of
// this name, and returns the path of the copy. A later run of the test replaces it.
func (c *Containerd) KeepLog(test string) (string, error) {
	cache, err := peers.Cache()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(c.path("log"))
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "logs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	file := filepath.Join(dir, strings.ReplaceAll(test, "/", "-")+"-"+c.Version+".log")
	return file, os.WriteFile(file, b, 0o644)
}

// Stop removes all containers, ends containerd and removes its folder.
func (c *Containerd) Stop() error {
	if c.Client != nil {
		c.removeAll()
	}
	c.halt()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second*pace.Patience())
	defer cancel()
	end(ctx, syscall.SIGTERM, c.daemons()) // there is one only if this is the guard
	end(ctx, syscall.SIGKILL, append(c.daemons(), c.Shims()...))
	err := errors.Join(unmount(c.Dir), os.RemoveAll(c.Dir))
	if c.dismiss != nil {
		err = errors.Join(err, c.dismiss())
	}
	return err
}

func (c *Containerd) removeAll() {
	c.removeIn(Namespace)
	c.removeIn(Kubernetes)
}

// removeIn removes the containers of one of containerd's namespaces.
func (c *Containerd) removeIn(namespace string) {
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), namespace), time.Minute)
	defer cancel()
	list, err := c.Client.Containers(ctx)
	if err != nil {
		return
	}
	for _, ctr := range list {
		if task, err := ctr.Task(ctx, nil); err == nil {
			_, _ = task.Delete(ctx, containerd.WithProcessKill)
		}
		_ = ctr.Delete(ctx, containerd.WithSnapshotCleanup)
	}
}
