// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/containerd/containerd/api/events"
	ttrpcevents "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

var quiet = slog.New(slog.DiscardHandler)

// containerd is a stand-in for containerd's event service.
type containerd struct {
	mu     sync.Mutex
	got    []string
	refuse int // answer so many with an error
	arrive chan struct{}
}

func (c *containerd) Forward(_ context.Context, r *ttrpcevents.ForwardRequest) (*emptypb.Empty, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse > 0 {
		c.refuse--
		return nil, errors.New("not now")
	}
	e := r.GetEnvelope()
	var exit events.TaskExit
	if err := proto.Unmarshal(e.GetEvent().GetValue(), &exit); err != nil {
		return nil, err
	}
	c.got = append(c.got, fmt.Sprintf("%s %s %s %d", e.GetNamespace(), e.GetTopic(), e.GetEvent().GetTypeUrl(), exit.GetPid()))
	select {
	case c.arrive <- struct{}{}:
	default:
	}
	return &emptypb.Empty{}, nil
}

func (c *containerd) serve(t *testing.T, path string) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	ttrpcevents.RegisterTTRPCEventsService(srv, c)
	go srv.Serve(context.Background(), l)
	return func() { srv.Close() }
}

func exit(pid int) *events.TaskExit { return &events.TaskExit{ContainerID: "box", Pid: uint32(pid)} }

func (c *containerd) want(t *testing.T, pids ...int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var want []string
	for _, p := range pids {
		want = append(want, fmt.Sprintf("ns /tasks/exit containerd.events.TaskExit %d", p))
	}
	// An event whose reply was lost with the connection comes once more.
	if got := slices.Compact(c.got); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("arrived:\n%q\nwant:\n%q", got, want)
	}
}

func TestOrderAndFlush(t *testing.T) {
	c := &containerd{}
	path := filepath.Join(t.TempDir(), "s")
	defer c.serve(t, path)()
	q := NewQueue(path, "ns", quiet)
	var pids []int
	for i := range 300 {
		q.Publish(exit(i))
		pids = append(pids, i)
	}
	q.Close(t.Context())
	c.want(t, pids...)
}

// Events wait for a containerd that is restarted, and lose no place.
func TestContainerdAway(t *testing.T) {
	c := &containerd{arrive: make(chan struct{}, 1)}
	path := filepath.Join(t.TempDir(), "s")
	q := NewQueue("unix://"+path, "ns", quiet)
	q.Publish(exit(1)) // nobody there yet
	stop := c.serve(t, path)
	<-c.arrive
	stop()
	q.Publish(exit(2))
	q.Publish(exit(3))
	stop = c.serve(t, path)
	defer stop()
	q.Close(t.Context())
	c.want(t, 1, 2, 3)
}

func TestRefusedIsTriedAgainThenDropped(t *testing.T) {
	c := &containerd{refuse: maxRefused + 1}
	path := filepath.Join(t.TempDir(), "s")
	defer c.serve(t, path)()
	q := NewQueue(path, "ns", quiet)
	q.Publish(exit(1)) // refused maxRefused times
	q.Publish(exit(2)) // refused once
	q.Close(t.Context())
	c.want(t, 2)
}

func TestNoAddress(t *testing.T) {
	q := NewQueue("", "ns", quiet)
	q.Publish(exit(1))
	q.Close(t.Context())
}

// stuck never delivers.
type stuck struct{}

func (stuck) send(ctx context.Context, _ *types.Envelope) error { return errors.New("away") }
func (stuck) close()                                            {}

func TestBound(t *testing.T) {
	q := newQueue(stuck{}, "ns", quiet)
	for i := range 3 * maxQueued {
		q.Publish(exit(i))
	}
	q.mu.Lock()
	n := len(q.events)
	q.mu.Unlock()
	if n != maxQueued {
		t.Errorf("%d events are kept, want the bound %d", n, maxQueued)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q.Close(ctx) // ends though nothing can be delivered
}

func TestTopics(t *testing.T) {
	if _, err := topic(&emptypb.Empty{}); err == nil {
		t.Error("a message that is no event has a topic")
	}
}
