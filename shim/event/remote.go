// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	ttrpcevents "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// callTimeout bounds one attempt, so that a hanging containerd does not block the
// queue.
const callTimeout = 5 * time.Second

// namespaceHeader carries containerd's namespace in ttrpc calls.
const namespaceHeader = "containerd-namespace-ttrpc"

// remote sends events to containerd by ttrpc. It connects when needed, and
// again after a restart of containerd.
type remote struct {
	address   string
	namespace string

	mu     sync.Mutex
	client *ttrpc.Client // guarded by mu; nil: not connected
}

func (r *remote) send(ctx context.Context, e *types.Envelope) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := r.connect(ctx)
	if err != nil {
		return err
	}
	md := ttrpc.MD{}
	md.Set(namespaceHeader, r.namespace)
	_, err = ttrpcevents.NewTTRPCEventsClient(c).Forward(ttrpc.WithMetadata(ctx, md), &ttrpcevents.ForwardRequest{Envelope: e})
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unavailable && s.Code() != codes.DeadlineExceeded &&
		!errors.Is(err, ttrpc.ErrClosed) && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	r.close()
	return err
}

func (r *remote) connect(ctx context.Context) (*ttrpc.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client != nil {
		return r.client, nil
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", strings.TrimPrefix(r.address, "unix://"))
	if err != nil {
		return nil, err
	}
	var c *ttrpc.Client
	c = ttrpc.NewClient(conn, ttrpc.WithOnClose(func() { r.forget(&c) }))
	r.client = c
	return c, nil
}

// forget drops the connection that *c names if it is still the current one.
// The pointer is read under the lock, since the connection may close before
// connect has returned.
func (r *remote) forget(c **ttrpc.Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client == *c {
		r.client = nil
	}
}

func (r *remote) close() {
	r.mu.Lock()
	c := r.client
	r.client = nil
	r.mu.Unlock()
	if c != nil {
		c.Close()
	}
}
