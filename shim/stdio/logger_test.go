// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func script(t *testing.T, body string) (path, dir string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, "logger")
	// A process that another test starts meanwhile would have it open for writing, until it
	// executes, and what is open for writing cannot be executed (ETXTBSY).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, dir
}

const logsAll = `d=$2
echo "$CONTAINER_ID $CONTAINER_NAMESPACE $*" > $d/who
READY
exec 5>&-
cat <&3 > $d/out &
cat <&4 > $d/err
wait
`

func TestBinaryLogger(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ scheme, ready string }{{"binary", ""}, {"binary-v2", "printf x >&5"}} {
		t.Run(c.scheme, func(t *testing.T) {
			path, dir := script(t, strings.Replace(logsAll, "READY", c.ready, 1))
			s := open(t, Config{ID: "box", Namespace: "ns", Stdout: c.scheme + "://" + path + "?--dir=" + dir + "&b=a%20c"})
			sayBoth(t, s)
			s.Close() // waits for the logger
			for name, want := range map[string]string{"who": "box ns --dir " + dir + " b a c\n", "out": "to stdout", "err": "to stderr"} {
				if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
					t.Errorf("%s is %q, %v; want %q", name, b, err, want)
				}
			}
		})
	}
}

func TestLoggerNotReady(t *testing.T) {
	t.Parallel()
	path, _ := script(t, "exec 5>&-\nexec cat <&3\n")
	err := New(Config{Stdout: "binary-v2://" + path}).Open(t.Context())
	if err == nil || !strings.Contains(err.Error(), "without writing a byte") {
		t.Errorf("error is %v", err)
	}
	if err = New(Config{Stdout: "binary:///no/such/logger"}).Open(t.Context()); err == nil {
		t.Error("a logger that is not there was started")
	}
}

// A logger that heeds neither the end of its input nor SIGTERM is killed.
func TestLoggerThatStays(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes the 14 seconds that a logger is given")
	}
	path, _ := script(t, "trap '' TERM\nexec 5>&-\nwhile :; do sleep 1; done\n")
	s := open(t, Config{Stdout: "binary://" + path})
	s.Close()
	if s.logger.cmd.ProcessState == nil {
		t.Error("the logger is still there")
	}
}
