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

// Pod, Container and Process are what this package uses of package runtime,
// so that tests can cause what the kernel seldom does.
type (
	// Pod makes containers; see runtime.Pod.
	Pod interface {
		// Create makes a container. The first reads the host's configuration from the file
		// configPath, "" for the usual one.
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

// RuntimePod is the Pod of package runtime. The host's configuration is read
// with the first Create, since the options of Create may name another file.
func RuntimePod(log *slog.Logger, namespace, sandbox string) Pod {
	return &pod{log: log, namespace: namespace, sandbox: sandbox}
}

type pod struct {
	log                *slog.Logger
	namespace, sandbox string

	mu   sync.Mutex
	real *runtime.Pod // guarded by mu; nil until a Create has read the configuration
	// Set with real.
	stop func() // ends the look for what others left
	cfg  *config.Config
}

// open makes the Pod of package runtime with the first Create. An error is not remembered: the
// configuration may be mended by the next.
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
	// For the delete command, before anything is made.
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

// runtimeContainer makes a runtime.Container a Container.
type runtimeContainer struct {
	*runtime.Container
	metrics *metrics.Reader
}

// Stats answers until Delete, from the last state if the processes are gone.
func (c runtimeContainer) Stats() (proto.Message, error) { return c.metrics.Read() }

// OOMKills also reads what Stats returns after the end of the last process, with which
// systemd removes the cgroup: the task service asks at each exit by SIGKILL.
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
