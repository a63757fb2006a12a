// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
)

// connections admits only callers that run as the shim's own user, and counts
// them, so that the shim can exit after they have disconnected.
//
// ttrpc's own Shutdown does not do that: it takes a connection whose first call
// is being answered for an idle one, and cuts off the answer (ttrpc 1.2.10).
type connections struct {
	check ttrpc.UnixCredentialsFunc

	mu   sync.Mutex
	n    int           // guarded by mu
	zero chan struct{} // guarded by mu; closed and replaced when n drops to 0
}

func newConnections() *connections {
	return &connections{check: ttrpc.UnixSocketRequireSameUser(), zero: make(chan struct{})}
}

// Handshake implements ttrpc.Handshaker.
func (p *connections) Handshake(ctx context.Context, conn net.Conn) (net.Conn, any, error) {
	c, info, err := p.check.Handshake(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	return &connection{Conn: c, of: p}, info, nil
}

// none reports whether no caller is connected.
func (p *connections) none() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n == 0
}

// wait returns when all callers have disconnected, or after timeout.
func (p *connections) wait(timeout time.Duration) {
	p.mu.Lock()
	n, zero := p.n, p.zero
	p.mu.Unlock()
	if n == 0 {
		return
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-zero:
	case <-t.C:
	}
}

func (p *connections) closed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n--; p.n == 0 {
		close(p.zero)
		p.zero = make(chan struct{})
	}
}

// connection is one connection.
type connection struct {
	net.Conn
	of   *connections
	once sync.Once
}

func (c *connection) Close() error {
	c.once.Do(c.of.closed)
	return c.Conn.Close()
}
