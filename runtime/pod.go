// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"log/slog"
	"sync"

	"sysbox/runtime/config"
	"sysbox/runtime/state"
)

// Pod is what the containers of one sandbox share: the range of ids and the
// user namespace, made when the first container needs them and given back
// with the last. Its methods may be called from several goroutines.
type Pod struct {
	cfg       *config.Config
	log       *slog.Logger
	namespace string
	sandbox   string
	ids       podIDs

	mu sync.Mutex
	// registered: the host lists the directories; guarded by mu.
	registered bool
}

// NewPod returns the pod of a sandbox in one of containerd's namespaces. Warnings
// about its containers go to log. Nothing is made before the first Create.
func NewPod(cfg *config.Config, log *slog.Logger, namespace, sandbox string) *Pod {
	p := &Pod{cfg: cfg, log: log, namespace: namespace, sandbox: sandbox}
	p.ids = podIDs{dirs: cfg.Dirs(), pool: cfg.Pool(), owner: p.owner()}
	return p
}

// Close gives back what the pod still holds; its containers must have been
// deleted.
func (p *Pod) Close() error { return p.ids.close() }

// register lists the pod's directories, once.
func (p *Pod) register() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.registered {
		return nil
	}
	err := p.cfg.Dirs().Register()
	p.registered = err == nil
	return err
}

// owner is the name under which the pod's range is recorded. Callers with a state directory
// of their own may have a pod of the same name.
func (p *Pod) owner() string {
	if p.cfg.StateDir == state.HostDir {
		return p.namespace + "/" + p.sandbox
	}
	return p.namespace + "/" + p.sandbox + " of " + p.cfg.StateDir
}
