// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"sysbox/runtime/config"
	"sysbox/tests/testcontainer"
)

// TestTrapsFailClosed: without its server a trapped call fails; nobody waits for ever.
func TestTrapsFailClosed(t *testing.T) {
	t.Parallel()
	c := testcontainer.Started(t, nil)
	c.CloseTraps()
	p, text := c.Executed(t, testcontainer.Command("sh", "-c", "mknod /root/n c 1 3"))
	testcontainer.Wait(t, p)
	if out := text(); !strings.Contains(out, "not implemented") {
		t.Errorf("output %q", out)
	}
}

// TestTrapsFailClosedInFlight: the server ends while it works on a call of a process: that
// call is answered, and each later one fails.
func TestTrapsFailClosedInFlight(t *testing.T) {
	t.Parallel()
	received, gate := make(chan bool), make(chan bool)
	var once sync.Once
	c := testcontainer.NewPod(t, func(c *config.Config) {
		c.Testing.Received = func(int) { once.Do(func() { received <- true; <-gate }) }
	}).Started(t, nil)
	p, text := c.Executed(t, testcontainer.Command("sh", "-c", "mknod /tmp/a c 1 3; mknod /tmp/b c 1 3; mknod /tmp/c c 1 3; ls /tmp"))
	<-received
	closed := make(chan bool)
	go func() { c.CloseTraps(); close(closed) }()
	for { // until it takes no more listeners; this one has ended
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		if errors.Is(c.ServeTraps(r), os.ErrClosed) {
			break
		}
	}
	close(gate)
	<-closed
	testcontainer.Wait(t, p)
	out := text()
	if !strings.HasSuffix(out, "mknod: /tmp/b: Function not implemented\nmknod: /tmp/c: Function not implemented\na\n") {
		t.Errorf("output %q", out)
	}
}
