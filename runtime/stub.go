//go:build !real

package runtime

import (
	"context"
	"errors"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
)

var errStub = errors.New("runtime: not built yet")

// Pod is what the containers of one sandbox share: the range of ids and the
// user namespace, made when the first container needs them.
type Pod struct{}

// NewPod returns the pod named sandbox in a containerd namespace. Nothing is
// made before the first Create.
func NewPod(cfg *Config, namespace, sandbox string) *Pod { return &Pod{} }

// Create makes a container up to the point just before its execve.
func (p *Pod) Create(ctx context.Context, r CreateRequest) (*Container, error) { return nil, errStub }

// Close returns what the pod holds; its containers must have been deleted.
func (p *Pod) Close() error { return nil }

// Container is one container of a pod.
type Container struct{}

// ID of the container.
func (c *Container) ID() string { return "" }

// Spec is the bundle's config.json as read (not as changed).
func (c *Container) Spec() *specs.Spec { return nil }

// Init is the container's first process.
func (c *Container) Init() *Process { return nil }

// Start lets init go on to its execve. An error means that init never ran.
func (c *Container) Start(ctx context.Context) error { return errStub }

// Exec starts a further process; it's running when Exec returns.
func (c *Container) Exec(ctx context.Context, r ExecRequest) (*Process, error) { return nil, errStub }

// Pause freezes all processes.
func (c *Container) Pause(ctx context.Context) error { return errStub }

// Resume thaws them.
func (c *Container) Resume(ctx context.Context) error { return errStub }

// Update applies new limits.
func (c *Container) Update(ctx context.Context, r *specs.LinuxResources) error { return errStub }

// Stats returns *stats.Metrics of containerd/cgroups cgroup1 or cgroup2.
func (c *Container) Stats(ctx context.Context) (any, error) { return nil, errStub }

// Pids lists the host pids of all processes in the container's cgroup.
func (c *Container) Pids(ctx context.Context) ([]int, error) { return nil, errStub }

// SignalAll sends a signal to every process of the container.
func (c *Container) SignalAll(ctx context.Context, sig int) error { return errStub }

// OwnPIDNamespace is false if the rest of the container survives init's death
// and must be killed with SignalAll before init's exit is published.
func (c *Container) OwnPIDNamespace() bool { return true }

// WatchOOM calls f (from a goroutine of its own) for each OOM kill until the
// container is deleted.
func (c *Container) WatchOOM(f func()) error { return errStub }

// Delete removes everything of the container; its processes must have ended
// or are killed. It can be called again after an error.
func (c *Container) Delete(ctx context.Context) error { return errStub }

// Process is init or a process of Exec.
type Process struct{}

// Pid on the host.
func (p *Process) Pid() int { return 0 }

// Console is the master side of the terminal, nil without one. The caller
// owns and closes it.
func (p *Process) Console() *os.File { return nil }

// Wait blocks until the process has ended; any number of callers, also after
// the end. ctx's end gives ctx.Err().
func (p *Process) Wait(ctx context.Context) (Exit, error) { return Exit{}, errStub }

// Signal sends a signal. os.ErrProcessDone after the end.
func (p *Process) Signal(sig int) error { return errStub }

// Config is the host's configuration (/etc/sysbox/config.toml).
type Config struct {
	StateDir string
	DataDir  string
}

// LoadConfig reads the configuration: the file named by SYSBOX_CONFIG_FILE,
// else /etc/sysbox/config.toml if it exists, else defaults.
func LoadConfig() (*Config, error) { return &Config{}, nil }

// Cleanup removes all that a container left whose shim has died: processes,
// cgroups, ids, storage, state. Idempotent, and harmless to the siblings of
// its pod. It returns how init ended as far as that is known (137 otherwise).
func Cleanup(ctx context.Context, cfg *Config, namespace, id, bundle string) (Exit, error) {
	return Exit{}, errStub
}
