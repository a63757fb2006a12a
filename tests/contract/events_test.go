// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/events"
	ttrpcevents "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A recorder is containerd's event service. Without a path nobody is told, as with CRI-O.
type recorder struct {
	path string

	mu   sync.Mutex
	got  []event
	more chan struct{} // closed and replaced with each event
	srv  *ttrpc.Server
}

type event struct {
	topic     string // without /tasks/
	namespace string
	id, exec  string
	pid       uint32
	status    uint32
}

func newRecorder(path string) *recorder { return &recorder{path: path, more: make(chan struct{})} }

func (c *recorder) serve() error {
	os.Remove(c.path)
	l, err := net.Listen("unix", c.path)
	if err != nil {
		return err
	}
	srv, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	ttrpcevents.RegisterTTRPCEventsService(srv, c)
	go srv.Serve(context.Background(), l)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.srv = srv
	return nil
}

func (c *recorder) away() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.srv == nil
}

// leave ends the service and all its connections, as containerd's end does.
func (c *recorder) leave() {
	c.mu.Lock()
	srv := c.srv
	c.srv = nil
	c.mu.Unlock()
	if srv != nil {
		srv.Close()
	}
}

func (c *recorder) Forward(_ context.Context, r *ttrpcevents.ForwardRequest) (*emptypb.Empty, error) {
	env := r.GetEnvelope()
	e := event{topic: strings.TrimPrefix(env.GetTopic(), "/tasks/"), namespace: env.GetNamespace()}
	var m proto.Message
	switch e.topic {
	case "create":
		m = &events.TaskCreate{}
	case "start":
		m = &events.TaskStart{}
	case "exit":
		m = &events.TaskExit{}
	case "delete":
		m = &events.TaskDelete{}
	case "exec-added":
		m = &events.TaskExecAdded{}
	case "exec-started":
		m = &events.TaskExecStarted{}
	case "paused":
		m = &events.TaskPaused{}
	case "resumed":
		m = &events.TaskResumed{}
	case "oom":
		m = &events.TaskOOM{}
	default:
		return nil, fmt.Errorf("topic %s", env.GetTopic())
	}
	if url := env.GetEvent().GetTypeUrl(); url != string(m.ProtoReflect().Descriptor().FullName()) {
		e.topic += " of type " + url
	}
	if err := proto.Unmarshal(env.GetEvent().GetValue(), m); err != nil {
		return nil, err
	}
	if x, ok := m.(interface{ GetContainerID() string }); ok {
		e.id = x.GetContainerID()
	}
	if x, ok := m.(interface{ GetExecID() string }); ok {
		e.exec = x.GetExecID()
	}
	if x, ok := m.(interface{ GetPid() uint32 }); ok {
		e.pid = x.GetPid()
	}
	if x, ok := m.(interface{ GetExitStatus() uint32 }); ok {
		e.status = x.GetExitStatus()
	}
	if x, ok := m.(*events.TaskExit); ok && x.ID != x.ContainerID {
		e.exec = x.ID
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// An event whose answer was lost with the connection comes once more.
	if n := len(c.got); n == 0 || c.got[n-1] != e {
		c.got = append(c.got, e)
	}
	close(c.more)
	c.more = make(chan struct{})
	return &emptypb.Empty{}, nil
}

func (c *recorder) all() []event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// await waits until enough events have come that match, and tells whether they did.
func (c *recorder) await(n int, match func(event) bool, within time.Duration) bool {
	if c.path == "" || c.away() {
		return true
	}
	timeout := time.After(within)
	for {
		c.mu.Lock()
		found, more := 0, c.more
		for _, e := range c.got {
			if match(e) {
				found++
			}
		}
		c.mu.Unlock()
		if found >= n {
			return true
		}
		select {
		case <-more:
		case <-timeout:
			return false
		}
	}
}

// awaitDeletes waits for the events of what was deleted: a shim that is asked to leave
// need not have sent them yet.
func (r *rig) awaitDeletes() {
	r.mu.Lock()
	n := 0
	for _, b := range r.boxes {
		if b.deleted {
			n++
		}
	}
	r.mu.Unlock()
	r.events.await(n, func(e event) bool { return e.topic == "delete" }, 20*time.Second)
}

// awaitExit waits for the event of an exit that is known from Wait: with runc's shim it may
// come later, even after a Delete's.
func (r *rig) awaitExit(id, exec string) {
	of := func(topics ...string) func(event) bool {
		return func(e event) bool { return e.id == id && e.exec == exec && slices.Contains(topics, e.topic) }
	}
	if slices.ContainsFunc(r.events.all(), of("create", "exec-started")) {
		r.events.await(1, of("exit"), 20*time.Second)
	}
}

// told is what the caller was told by events, of those that match.
func (r *rig) told(match func(event) bool) string {
	var out []string
	for _, e := range r.events.all() {
		if match == nil || match(e) {
			out = append(out, r.render(e))
		}
	}
	return strings.Join(out, "; ")
}

func (r *rig) render(e event) string {
	s := e.topic + " " + e.id
	who := e.id
	if e.exec != "" {
		s += " " + e.exec
		who += " " + e.exec
	}
	if e.topic == "exit" || e.topic == "delete" {
		s += fmt.Sprintf(" %d", e.status)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.pid != 0 && r.names[e.pid] != who {
		s += " (pid of " + r.names[e.pid] + ")"
	}
	if e.namespace != r.namespace {
		s += " in namespace " + e.namespace
	}
	return s
}

func ofExec(id string) func(event) bool { return func(e event) bool { return e.exec == id } }
