// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/shim/bundle"
	"sysbox/shim/metrics"
)

// Pod, Container and Process are the part of package runtime that this package
// uses, so that tests can cause what the kernel seldom does.
type (
	// Pod makes containers; see runtime.Pod.
	Pod interface {
		// Create makes a container. The first Create reads the configuration of the host from
		// the file configPath; "" means the default file.
		Create(ctx context.Context, configPath string, r runtime.CreateRequest) (Container, error)
		Close() error
	}
	// Container is runtime.Container.
	Container interface {
		Init() Process
		Start(ctx context.Context) error
		Exec(ctx context.Context, r runtime.ExecRequest) (Process, error)
		Pause(ctx context.Context) error
		Resume(ctx context.Context) error
		Update(ctx context.Context, r *specs.LinuxResources) error
		Stats() (proto.Message, error)
		OOMKills() uint64
		Pids(ctx context.Context) ([]int, error)
		SignalAll(ctx context.Context, sig int) error
		OwnPIDNamespace() bool
		WatchOOM(f func()) error
		Delete(ctx context.Context) error
	}
	// Process is runtime.Process.
	Process interface {
		Pid() int
		Console() *os.File
		Wait(ctx context.Context) (runtime.Exit, error)
		Signal(sig int) error
	}
)

// RuntimePod returns the Pod of package runtime. The first Create reads the configuration
// of the host, since the options of Create may name another file.
func RuntimePod(log *slog.Logger, namespace, sandbox string) Pod {
	return &pod{log: log, namespace: namespace, sandbox: sandbox}
}

type pod struct {
	log                *slog.Logger
	namespace, sandbox string

	mu   sync.Mutex
	real *runtime.Pod // guarded by mu; nil until a Create has read the configuration
	// Set with real.
	stop func() // stops the background clean-up after dead shims
	cfg  *config.Config
}

// open makes the Pod of package runtime at the first Create. It does not remember an error: the
// configuration may be corrected before the next Create.
func (p *pod) open(configPath string) (*runtime.Pod, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.real != nil {
		return p.real, nil
	}
	cfg, err := config.Load(configPath)
	if err != nil {
		return nil, err
	}
	p.stop = runtime.ReclaimLater(p.log)
	p.cfg = cfg
	p.real = runtime.NewPod(cfg, p.log, p.namespace, p.sandbox)
	return p.real, nil
}

func (p *pod) Create(ctx context.Context, configPath string, r runtime.CreateRequest) (Container, error) {
	rp, err := p.open(configPath)
	if err != nil {
		return nil, err
	}
	// The delete action needs them, so they are written before anything is made.
	if err := bundle.WriteDirs(r.Bundle, p.cfg.StateDir, p.cfg.DataDir); err != nil {
		return nil, fmt.Errorf("record the configuration's directories in the bundle: %w", err)
	}
	c, err := rp.Create(ctx, r)
	if err != nil {
		return nil, err
	}
	return runtimeContainer{c, metrics.NewReader(c.Cgroup())}, nil
}

func (p *pod) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.real == nil {
		return nil
	}
	p.stop()
	return p.real.Close()
}

// runtimeContainer adapts runtime.Container to Container.
type runtimeContainer struct {
	*runtime.Container
	metrics *metrics.Reader
}

// Stats works until Delete; once the processes are gone it returns the last metrics read.
func (c runtimeContainer) Stats() (proto.Message, error) { return c.metrics.Read() }

// OOMKills also reads the metrics, which Stats returns after the last process has exited:
// systemd then removes the cgroup, and the task service calls OOMKills at each exit by SIGKILL.
func (c runtimeContainer) OOMKills() uint64 {
	if c.Cgroup().State().Unit != "" {
		_, _ = c.metrics.Read()
	}
	return c.Container.OOMKills()
}

func (c runtimeContainer) Init() Process { return c.Container.Init() }

func (c runtimeContainer) Exec(ctx context.Context, r runtime.ExecRequest) (Process, error) {
	p, err := c.Container.Exec(ctx, r)
	if err != nil {
		return nil, err
	}
	return p, nil
}
