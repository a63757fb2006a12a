// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/pkg/namespaces"

	"sysbox/tests/harness"
)

// marks are moments that containerd and the shims tell of, by container: its
// log says when it turned to a shim or lost it, and the times of the events
// are the shim's own. That is enough to divide a call into its parts without
// touching any of the programs that are measured.
type marks struct {
	end chan struct{} // closed when the log has ended

	mu   sync.Mutex
	at   map[string]time.Time // guarded by mu; by mark and id
	last []string             // guarded by mu
	came *sync.Cond
}

// The names of marks.
const (
	// markStarted: the shim's action start has answered.
	markStarted = "connecting to shim"
	// markLeft: the shim has closed its connection.
	markLeft = "shim disconnected"
	// markDelete: the shim's action delete begins.
	markDelete = "cleaning up dead shim"
	// The events.
	markCreate = "/tasks/create"
	markStart  = "/tasks/start"
	markGone   = "/tasks/delete"
)

var logLine = regexp.MustCompile(`^time="([^"]+)" level=\w+ msg="(connecting to shim|shim disconnected|cleaning up dead shim)(?: ([^" ]+))?"(?:.* id=(\S+))?`)

// tailLines are kept for the message of a containerd that does not start.
const tailLines = 5

func readMarks(log io.Reader, keep io.Writer) *marks {
	m := &marks{end: make(chan struct{}), at: map[string]time.Time{}}
	m.came = sync.NewCond(&m.mu)
	go func() {
		defer close(m.end)
		r := bufio.NewReader(log)
		for {
			line, err := r.ReadString('\n')
			_, _ = io.WriteString(keep, line)
			m.line(line)
			if err != nil {
				return
			}
		}
	}()
	return m
}

func (m *marks) line(line string) {
	m.mu.Lock()
	if m.last = append(m.last, line); len(m.last) > tailLines {
		m.last = m.last[1:]
	}
	m.mu.Unlock()
	f := logLine.FindStringSubmatch(line)
	if f == nil {
		return
	}
	if at, err := time.Parse(time.RFC3339Nano, f[1]); err == nil {
		m.put(f[2], f[3]+f[4], at)
	}
}

func (m *marks) put(mark, id string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.at[mark+" "+id]; !ok {
		m.at[mark+" "+id] = at
	}
	m.came.Broadcast()
}

func (m *marks) tail() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.last, "")
}

// markTimeout is how long a mark may take to get here after the call that
// caused it has returned.
const markTimeout = 5 * time.Second

// take waits for a mark; false if it does not come.
func (m *marks) take(mark, id string) (time.Time, bool) {
	late := time.AfterFunc(markTimeout, func() { m.came.Broadcast() })
	defer late.Stop()
	deadline := time.Now().Add(markTimeout)
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		if at, ok := m.at[mark+" "+id]; ok {
			delete(m.at, mark+" "+id)
			return at, true
		}
		if !time.Now().Before(deadline) {
			return time.Time{}, false
		}
		m.came.Wait()
	}
}

// watchEvents adds the events to the marks for as long as the client lives.
func (d *daemon) watchEvents() error {
	ctx := namespaces.WithNamespace(context.Background(), namespace)
	events, _, err := harness.Subscribe(ctx, d.client, `topic~="/tasks/(create|start|delete)"`)
	if err != nil {
		return err
	}
	go func() {
		for e := range events {
			if id := containerID(e.Event); id != "" {
				d.marks.put(e.Topic, id, e.Timestamp)
			}
		}
	}()
	return nil
}
