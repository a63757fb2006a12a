// SPDX-License-Identifier: Apache-2.0

package testcontainer

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"sysbox/runtime"
	"sysbox/runtime/config"
)

// configs counts them, for their pools of ids.
var configs atomic.Uint32

// Config is a configuration whose directories are the test's, and whose pool of ids hardly
// another test or process of the machine has: the end of a pod waits for all who use its range.
func Config(t testing.TB) *config.Config {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	const size, pools = 1 << 22, 16
	pool := uint32(os.Getpid()%32)*pools + configs.Add(1)%pools
	dir := t.TempDir()
	return &config.Config{
		StateDir: filepath.Join(dir, "state"), DataDir: filepath.Join(dir, "data"), Unshifted: "warn",
		IDs: config.IDs{User: "sysbox-test-none", Size: 1 << 18, PoolStart: 0x40000000 + pool*size, PoolSize: size},
	}
}

// Pod is a pod of one test.
type Pod struct {
	*runtime.Pod
	// Name is the sandbox's.
	Name string
	// Config is what the pod was made with. It may be changed while no container is made or
	// asked for anything.
	Config *config.Config

	said *record
}

// NewPod returns a pod with its state in a directory of the test. Each of change changes its
// configuration, the switches of Config.Testing among it, before the pod is made.
func NewPod(t testing.TB, change ...func(*config.Config)) *Pod {
	t.Helper()
	cfg := Config(t)
	for _, f := range change {
		f(cfg)
	}
	return newPod(cfg, "pod")
}

// Beside returns another pod, with the same configuration and another name.
func (p *Pod) Beside(name string) *Pod { return newPod(p.Config, name) }

func newPod(cfg *config.Config, name string) *Pod {
	said := &record{}
	both := tee{slog.NewTextHandler(said, nil), slog.Default().Handler()}
	return &Pod{Pod: runtime.NewPod(cfg, slog.New(both), Namespace, name), Name: name, Config: cfg, said: said}
}

// Namespace is the one of containerd's that the containers are in.
const Namespace = "test"

// Said is what the pod and its containers have logged, as text.
func (p *Pod) Said() string { return p.said.text() }

// record keeps what is written to it.
type record struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

func (r *record) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

// tee is a slog.Handler that hands all on to each of its own.
type tee []slog.Handler

func (h tee) Enabled(context.Context, slog.Level) bool { return true }

func (h tee) Handle(ctx context.Context, r slog.Record) error {
	var errs []error
	for _, to := range h {
		if to.Enabled(ctx, r.Level) {
			errs = append(errs, to.Handle(ctx, r.Clone()))
		}
	}
	return errors.Join(errs...)
}

func (h tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := slices.Clone(h)
	for i, to := range out {
		out[i] = to.WithAttrs(attrs)
	}
	return out
}

func (h tee) WithGroup(name string) slog.Handler {
	out := slices.Clone(h)
	for i, to := range out {
		out[i] = to.WithGroup(name)
	}
	return out
}
