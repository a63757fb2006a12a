// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sysbox/tests/harness"
	"sysbox/tests/peers"
)

// stdinRuns is how often a client with piped stdin is run for each size: of the race that this
// is about, the process lost more than every second before.
const stdinRuns = 20

// stdinSizes are what one write takes, a pipe holds, and more.
var stdinSizes = []int{1, 12 << 10, 64 << 10, 300_000, 5 << 20}

// piped is the input of a size, no two parts of which are alike.
func piped(size int) []byte {
	out := make([]byte, 0, size+sha256.Size)
	for n := 0; len(out) < size; n++ {
		sum := sha256.Sum256([]byte(fmt.Sprint(n)))
		out = append(out, sum[:]...)
	}
	return out[:size]
}

// pipe runs a ctr command with piped stdin, and fails the test if ctr does not end or fails, or
// if what comes back is not what was wanted.
func (h *host) pipe(t *testing.T, input io.Reader, sent, want []byte, args ...string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(background(t), 30*time.Second*patience())
	defer cancel()
	var out, errs bytes.Buffer
	// The newest ctr for all: that of 1.7 closes its end of stdout with output in it.
	bin, err := peers.Containerd(peers.Newest)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "ctr"), append([]string{"-a", h.Socket(), "-n", harness.Namespace}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &errs
	cmd.WaitDelay = time.Second
	switch err = cmd.Run(); {
	case ctx.Err() != nil:
		t.Errorf("ctr %v with %d bytes of stdin did not end; %d bytes came back; %s", args, len(sent), out.Len(), errs.Bytes())
	case err != nil:
		t.Errorf("ctr %v with %d bytes of stdin: %v; %s", args, len(sent), err, errs.Bytes())
	case !bytes.Equal(out.Bytes(), want):
		t.Errorf("ctr %v with %d bytes of stdin: %d bytes came back, and not the same", args, len(sent), out.Len())
	default:
		return true
	}
	return false
}

// inputs are the two ways in which stdin is piped: a file, and a pipe.
func inputs(t *testing.T, size int) (want []byte, open []func() io.Reader) {
	t.Helper()
	want = piped(size)
	file := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	return want, []func() io.Reader{
		func() io.Reader {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f
		},
		func() io.Reader { return struct{ io.Reader }{bytes.NewReader(want)} },
	}
}

// TestExecPipedStdin: a client that has written all before Start has answered says so at once,
// and the process sees all of it and the end.
func TestExecPipedStdin(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		task, _ := h.sleeper(t)
		for _, size := range stdinSizes {
			want, open := inputs(t, size)
			for n := range stdinRuns {
				if !h.pipe(t, open[n%len(open)](), want, want, "task", "exec", "--exec-id", fmt.Sprintf("p%d", count.Add(1)), task.ID(), "cat") {
					return // each more would wait as long
				}
			}
		}
	})
}

// TestRunPipedStdin: the same for init, which says by its status what it has read: ctr run
// does not wait for the last of the output.
func TestRunPipedStdin(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		for _, size := range stdinSizes {
			want, open := inputs(t, size)
			for n := range stdinRuns / 4 {
				script := fmt.Sprintf(`test "$(sha256sum)" = "%x  -"`, sha256.Sum256(want))
				if !h.pipe(t, open[n%len(open)](), want, nil, "run", "--rm", "--runtime", harness.Runtime, h.busybox.Name(), newID(), "sh", "-c", script) {
					return
				}
			}
		}
	})
}
