package daemon

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
)

// peers admits callers of the shim's own user only and counts them, so that
// the shim can end after they have left.
//
// ttrpc's own Shutdown will not do: it takes a connection whose first call is
// being answered for an idle one, and cuts the answer off (ttrpc 1.2.10).
type peers struct {
	check ttrpc.UnixCredentialsFunc

	mu   sync.Mutex
	n    int           // guarded by mu
	zero chan struct{} // guarded by mu; closed and replaced when n drops to 0
}

func newPeers() *peers {
	return &peers{check: ttrpc.UnixSocketRequireSameUser(), zero: make(chan struct{})}
}

// Handshake implements ttrpc.Handshaker.
func (p *peers) Handshake(ctx context.Context, conn net.Conn) (net.Conn, any, error) {
	c, info, err := p.check.Handshake(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	return &peer{Conn: c, peers: p}, info, nil
}

// none tells whether nobody is connected.
func (p *peers) none() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n == 0
}

// wait returns when all callers have left, or after timeout.
func (p *peers) wait(timeout time.Duration) {
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

func (p *peers) left() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n--; p.n == 0 {
		close(p.zero)
		p.zero = make(chan struct{})
	}
}

// peer is one connection.
type peer struct {
	net.Conn
	peers *peers
	once  sync.Once
}

func (c *peer) Close() error {
	c.once.Do(c.peers.left)
	return c.Conn.Close()
}
