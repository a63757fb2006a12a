// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// maxQueued bounds the memory of queued events while containerd is away: at
// some 300 bytes each, half a megabyte. Beyond it the oldest are dropped: after
// its own restart containerd asks for the state of each task.
const maxQueued = 1 << 11

const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
	// maxRefused is how often an event is sent again after containerd has answered it
	// with an error.
	maxRefused = 5
)

// errRefused is a sender's error for an event that containerd received but did not accept.
var errRefused = errors.New("containerd refused the event")

// sender delivers one event.
type sender interface {
	send(ctx context.Context, e *types.Envelope) error
	close()
}

// Queue holds events that are published but not delivered yet. Publish
// never blocks; one goroutine delivers in the order of Publish.
type Queue struct {
	namespace string
	sender    sender
	log       *slog.Logger
	done      chan struct{} // closed when run has ended

	mu      sync.Mutex
	events  []*types.Envelope // guarded by mu; the head may be on its way
	dropped int               // guarded by mu; since the last report
	closing bool              // guarded by mu
	wake    chan struct{}     // capacity 1
	cancel  context.CancelFunc
}

// NewQueue returns a queue that sends to the ttrpc address of containerd's
// event service, and connects at the first event. CRI-O gives no address:
// then the queue drops events.
func NewQueue(address, namespace string, log *slog.Logger) *Queue {
	if address == "" {
		return newQueue(nil, namespace, log)
	}
	return newQueue(&remote{address: address, namespace: namespace}, namespace, log)
}

func newQueue(s sender, namespace string, log *slog.Logger) *Queue {
	ctx, cancel := context.WithCancel(context.Background())
	q := &Queue{
		namespace: namespace,
		sender:    s,
		log:       log,
		done:      make(chan struct{}),
		wake:      make(chan struct{}, 1),
		cancel:    cancel,
	}
	if s == nil {
		close(q.done)
	} else {
		go q.run(ctx)
	}
	return q
}

// Publish queues an event: one of the Task messages of containerd's
// api/events.
func (q *Queue) Publish(e proto.Message) {
	if q.sender == nil {
		return
	}
	name, err := topic(e)
	if err != nil {
		q.log.Error("drop an event", "err", err)
		return
	}
	value, err := proto.Marshal(e)
	if err != nil {
		q.log.Error("drop an event", "topic", name, "err", err)
		return
	}
	env := &types.Envelope{
		Timestamp: timestamppb.Now(),
		Namespace: q.namespace,
		Topic:     name,
		Event:     &anypb.Any{TypeUrl: string(e.ProtoReflect().Descriptor().FullName()), Value: value},
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) == maxQueued {
		q.events = q.events[1:]
		q.dropped++
	}
	q.events = append(q.events, env)
	q.poke()
}

func (q *Queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Close delivers queued events until ctx ends, and then stops.
func (q *Queue) Close(ctx context.Context) {
	q.mu.Lock()
	q.closing = true
	q.poke()
	q.mu.Unlock()
	select {
	case <-q.done:
	case <-ctx.Done():
		q.cancel()
		<-q.done
	}
	q.cancel()
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.events); n > 0 {
		q.log.Warn("events were not delivered", "count", n)
	}
}

func (q *Queue) run(ctx context.Context) {
	defer close(q.done)
	defer q.sender.close()
	for {
		head, closing := q.head()
		if head == nil {
			if closing {
				return
			}
			select {
			case <-q.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		if !q.deliver(ctx, head) {
			return
		}
		q.pop(head)
	}
}

// deliver sends until it succeeds or drops the event. It returns false to stop the queue.
func (q *Queue) deliver(ctx context.Context, e *types.Envelope) bool {
	delay, refused := firstRetry, 0
	for {
		err := q.sender.send(ctx, e)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if errors.Is(err, errRefused) {
			if refused++; refused == maxRefused {
				q.log.Error("drop an event", "topic", e.Topic, "err", err)
				return true
			}
		}
		q.log.Debug("send an event again", "topic", e.Topic, "after", delay, "err", err)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return false
		}
		delay = min(2*delay, lastRetry)
		if head, _ := q.head(); head != e {
			return true // Publish dropped it meanwhile
		}
	}
}

func (q *Queue) head() (e *types.Envelope, closing bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dropped > 0 {
		q.log.Warn("dropped the oldest events: containerd does not accept them", "count", q.dropped)
		q.dropped = 0
	}
	if len(q.events) == 0 {
		return nil, q.closing
	}
	return q.events[0], q.closing
}

// pop removes e if it is still the head.
func (q *Queue) pop(e *types.Envelope) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) > 0 && q.events[0] == e {
		q.events[0] = nil
		q.events = q.events[1:]
	}
	if len(q.events) == 0 {
		q.events = nil
	}
}
