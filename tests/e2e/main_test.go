// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the shim under real containerds, the newest and the last
// that starts shims by the old protocol, with real images.
//
// What does not belong here: what can be seen without containerd, which the
// packages' own tests show.
package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/leak"
	"sysbox/tests/pace"
	"sysbox/tests/peers"
)

// host is a containerd with the busybox image in it, and what a test needs to
// make containers there.
type host struct {
	*harness.Containerd
	busybox containerd.Image
}

var hosts = map[string]*host{}

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, prepare, func() int {
		code := m.Run()
		for _, h := range hosts {
			if err := h.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
		return code
	}))
}

// prepare makes what the tests need from the network.
func prepare() error {
	for _, version := range slices.Concat(versions, more) {
		if _, err := peers.Containerd(version); err != nil {
			return err
		}
	}
	for _, program := range []string{dialer, client, reach, stuck} {
		if _, err := peers.Program(program); err != nil {
			return err
		}
	}
	for _, build := range []func() (string, error){peers.Docker, peers.Runc} {
		if _, err := build(); err != nil {
			return err
		}
	}
	if _, err := peers.OldShim(peers.LastShim); err != nil && !errors.Is(err, peers.ErrNoHistory) {
		return err
	}
	if err := cniPrepared(); err != nil {
		return err
	}
	if _, err := images.Debian(); err != nil { // and busybox, which it has in it
		return err
	}
	if _, err := images.NFS(); err != nil {
		return err
	}
	for _, suite := range diskSuites {
		if _, err := images.Disks(suite); err != nil {
			return err
		}
	}
	_, err := images.Inner()
	return err
}

// versions are those that nearly every test runs under: they differ most. The tests of
// a container's life run under more.
var (
	versions = []string{peers.Newest, peers.OldStart}
	more     = []string{peers.LTS, peers.Before, peers.Debian}
)

// skipped says why there is nothing to be tested here; "" if there is.
func skipped() string {
	switch {
	case testing.Short():
		return "starts containerd, which -short leaves out"
	case os.Getuid() != 0:
		return "makes containers, which takes root"
	}
	return ""
}

// on returns the containerd of a version, started by the first test that asks.
func on(t *testing.T, version string) *host {
	t.Helper()
	if why := skipped(); why != "" {
		t.Skip(why)
	}
	if hosts[version] == nil {
		archive, err := images.Busybox()
		if err != nil {
			t.Fatal(err)
		}
		c, err := harness.Start(context.Background(), version)
		if err != nil {
			t.Fatal(err)
		}
		hosts[version] = &host{Containerd: c}
		if hosts[version].busybox, err = c.Load(context.Background(), archive); err != nil {
			t.Fatal(err)
		}
	}
	h := hosts[version]
	h.watch(t)
	return h
}

// leaks are the options of the leak check.
func (h *host) leaks() leak.Options {
	return leak.Options{
		Dirs:    []string{h.StateDir(), h.DataDir()},
		Service: filepath.Base(h.Dir) + "-",
		Match: func(line string) bool {
			return strings.Contains(line, "shim-sysbox") || strings.Contains(line, "sysbox-init") || strings.Contains(line, "sysbox-fill")
		},
	}
}

func (h *host) snapshot(t *testing.T) leak.Snapshot {
	t.Helper()
	s, err := leak.Take(h.leaks())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// watch fails the test if it leaves anything behind.
func (h *host) watch(t *testing.T) {
	t.Helper()
	before := h.snapshot(t)
	t.Cleanup(func() {
		found, err := leak.Compare(before, h.leaks())
		if err != nil {
			t.Error(err)
		}
		for _, s := range found {
			t.Error(s)
		}
		if t.Failed() {
			kept, err := h.KeepLog(t.Name())
			t.Logf("containerd's log is kept in %s (%v), and ends:\n%s", kept, err, h.Log())
		}
	})
}

// both runs a test under both containerds.
func both(t *testing.T, f func(t *testing.T, h *host)) { under(t, versions, f) }

// under runs a test under these versions. An emulated machine is there for its kernel, and
// takes the first alone.
func under(t *testing.T, versions []string, f func(t *testing.T, h *host)) {
	for _, v := range here(t, versions) {
		t.Run(v, func(t *testing.T) { f(t, on(t, v)) })
	}
}

func here(t *testing.T, versions []string) []string {
	t.Helper()
	if harness.Machine() {
		t.Logf("of the containerds %s, this machine takes the first", strings.Join(versions, ", "))
		return versions[:1]
	}
	return versions
}

// subscribe is [harness.Subscribe].
func (h *host) subscribe(ctx context.Context, t *testing.T, filter string) (<-chan *events.Envelope, <-chan error) {
	t.Helper()
	stream, errs, err := harness.Subscribe(ctx, h.Client, filter)
	if err != nil {
		t.Fatal(err)
	}
	return stream, errs
}

// patience is how many times longer things take: emulation is slow.
func patience() time.Duration { return pace.Patience() }

// all runs a test under all versions.
func all(t *testing.T, f func(t *testing.T, h *host)) {
	under(t, slices.Concat(versions, more), f)
}

func background(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), harness.Namespace), 3*time.Minute*patience())
	t.Cleanup(cancel)
	return ctx
}

var count atomic.Int64

// session keeps the ids of two runs at the same time apart.
var session = strings.ToLower(rand.Text()[:8])

// container makes a container that the test removes at its end.
func (h *host) container(t *testing.T, image containerd.Image, opts ...oci.SpecOpts) containerd.Container {
	t.Helper()
	id := newID()
	return h.containerOn(t, id, containerd.WithNewSnapshot(id, image), image, opts...)
}

func newID() string { return fmt.Sprintf("c%s-%d", session, count.Add(1)) }

// containerOn is container on a snapshot that the caller chooses.
func (h *host) containerOn(t *testing.T, id string, snapshot containerd.NewContainerOpts, image containerd.Image, opts ...oci.SpecOpts) containerd.Container {
	t.Helper()
	ctx := background(t)
	opts = append([]oci.SpecOpts{oci.WithDefaultPathEnv, oci.WithImageConfig(image)}, opts...)
	c, err := h.Client.NewContainer(ctx, id, containerd.WithImage(image), snapshot,
		containerd.WithRuntime(harness.Runtime, nil), containerd.WithNewSpec(opts...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.remove(t, id) })
	return c
}

// remove ends a container and removes it.
func (h *host) remove(t *testing.T, id string) {
	t.Helper()
	ctx := background(t)
	// Loaded, as containerd may have been restarted since.
	c, err := h.Client.LoadContainer(ctx, id)
	if err != nil {
		t.Errorf("load the container to remove it: %v", err)
		return
	}
	if task, err := c.Task(ctx, nil); err == nil {
		if _, err := task.Delete(ctx, containerd.WithProcessKill); err != nil {
			t.Errorf("delete the task: %v", err)
		}
	}
	if err := c.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
		t.Errorf("delete the container: %v", err)
	}
}

// output collects what a process writes. Nothing tells in which order it wrote to two
// streams: what it wrote to stderr is put before the rest.
type output struct {
	mu        sync.Mutex
	out, errs bytes.Buffer // guarded by mu
}

func (o *output) Write(b []byte) (int, error) { return o.add(&o.out, b) }

func (o *output) add(to *bytes.Buffer, b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return to.Write(b)
}

// stderr is where stderr goes.
type stderr struct{ *output }

func (e stderr) Write(b []byte) (int, error) { return e.add(&e.errs, b) }

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.errs.String() + o.out.String()
}

func (o *output) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.out.Reset()
	o.errs.Reset()
}

func (o *output) creator() cio.Creator { return cio.NewCreator(cio.WithStreams(nil, o, stderr{o})) }

// task starts a container.
func (h *host) task(t *testing.T, c containerd.Container, io cio.Creator) (containerd.Task, <-chan containerd.ExitStatus) {
	t.Helper()
	ctx := background(t)
	task, err := c.NewTask(ctx, io)
	// containerd forgets the task of a dead shim a moment after it has removed the bundle.
	for end := time.Now().Add(20 * time.Second * patience()); errdefs.IsAlreadyExists(err) && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		task, err = c.NewTask(ctx, io)
	}
	if err != nil {
		t.Fatal(err)
	}
	return task, started(t, task)
}

// started starts a task or an exec that was made, and tells its end.
func started(t *testing.T, p containerd.Process) <-chan containerd.ExitStatus {
	t.Helper()
	// As long as the test, which has limits for each thing it waits for.
	life, cancel := context.WithCancel(namespaces.WithNamespace(context.Background(), harness.Namespace))
	t.Cleanup(cancel)
	exit, err := p.Wait(life)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(background(t)); err != nil {
		t.Fatal(err)
	}
	return exit
}

// run runs a command in a busybox container to its end.
func (h *host) run(t *testing.T, script string, opts ...oci.SpecOpts) (string, uint32) {
	t.Helper()
	var out output
	c := h.container(t, h.busybox, append([]oci.SpecOpts{oci.WithProcessArgs("sh", "-c", script)}, opts...)...)
	task, exit := h.task(t, c, out.creator())
	status := wait(t, exit)
	task.IO().Wait()
	return out.String(), status
}

// sleeper runs a container that does nothing.
func (h *host) sleeper(t *testing.T, opts ...oci.SpecOpts) (containerd.Task, <-chan containerd.ExitStatus) {
	t.Helper()
	c := h.container(t, h.busybox, append([]oci.SpecOpts{oci.WithProcessArgs("sleep", "1000")}, opts...)...)
	return h.task(t, c, cio.NullIO)
}

// exec runs a command in a running container to its end.
func (h *host) exec(t *testing.T, task containerd.Task, change func(*specs.Process), args ...string) (string, uint32) {
	t.Helper()
	ctx := background(t)
	p := &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}}
	if change != nil {
		change(p)
	}
	var out output
	proc, err := task.Exec(ctx, fmt.Sprintf("x%d", count.Add(1)), p, out.creator())
	if err != nil {
		t.Fatal(err)
	}
	exit, err := proc.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Start(ctx); err != nil {
		_, _ = proc.Delete(ctx)
		return err.Error(), 255
	}
	status := wait(t, exit)
	proc.IO().Wait()
	if _, err := proc.Delete(ctx); err != nil {
		t.Errorf("delete the exec: %v", err)
	}
	return out.String(), status
}

func wait(t *testing.T, exit <-chan containerd.ExitStatus) uint32 {
	t.Helper()
	select {
	case s := <-exit:
		if s.Error() != nil {
			t.Fatal(s.Error())
		}
		return s.ExitCode()
	case <-time.After(2 * time.Minute * patience()):
		t.Fatalf("the process did not end within %d minutes", 2*patience())
		return 0
	}
}

func kill(t *testing.T, task containerd.Task, exit <-chan containerd.ExitStatus, sig syscall.Signal, opts ...containerd.KillOpts) uint32 {
	t.Helper()
	if err := task.Kill(background(t), sig, opts...); err != nil {
		t.Fatal(err)
	}
	return wait(t, exit)
}
