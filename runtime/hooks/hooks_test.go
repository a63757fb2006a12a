// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/pace"
)

var state = &specs.State{Version: "1.3.0", ID: "c1", Status: specs.StateCreating, Pid: 42, Bundle: "/b", Annotations: map[string]string{"k": "v"}}

func script(t *testing.T, text string) specs.Hook {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return specs.Hook{Path: path}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHookSeesWhatTheSpecSays(t *testing.T) {
	t.Setenv("OF_THE_SHIM", "1")
	dir := t.TempDir()
	h := script(t, `cat >state; pwd >dir; echo "$0 $# $1" >args; env >env; echo noise`)
	h.Args = []string{"name", "one"}
	h.Env = []string{"A=b"}
	if err := Run(context.Background(), h, state, dir); err != nil {
		t.Fatal(err)
	}
	var got specs.State
	if err := json.Unmarshal([]byte(read(t, dir+"/state")), &got); err != nil || got.ID != "c1" || got.Pid != 42 || got.Annotations["k"] != "v" {
		t.Errorf("state %+v, %v", got, err)
	}
	if got := strings.TrimSpace(read(t, dir+"/dir")); got != dir {
		t.Errorf("ran in %q, want %q", got, dir)
	}
	// The kernel replaces argv[0] of a script by its path.
	if got, want := strings.TrimSpace(read(t, dir+"/args")), h.Path+" 1 one"; got != want {
		t.Errorf("arguments %q, want %q", got, want)
	}
	if env := read(t, dir+"/env"); !strings.Contains(env, "A=b\n") || strings.Contains(env, "OF_THE_SHIM") {
		t.Errorf("environment %q", env)
	}
}

func TestArgvAndEnv(t *testing.T) {
	if a := Argv(specs.Hook{Path: "/x"}); len(a) != 1 || a[0] != "/x" {
		t.Errorf("Argv without args: %q", a)
	}
	if a := Argv(specs.Hook{Path: "/x", Args: []string{"y", "z"}}); len(a) != 2 || a[0] != "y" {
		t.Errorf("Argv: %q", a)
	}
	if e := Env(specs.Hook{}); e == nil || len(e) != 0 {
		t.Errorf("Env of none: %#v, want empty and not nil", e)
	}
}

func TestOrderAndStopAtFirstFailure(t *testing.T) {
	dir := t.TempDir()
	list := []specs.Hook{
		script(t, "echo 1 >>log"),
		script(t, "echo 2 >>log; echo first line >&2; printf 'went \\033[31mwrong\\n' >&2; exit 3"),
		script(t, "echo 3 >>log"),
	}
	err := RunAll(context.Background(), CreateRuntime, list, state, dir)
	want := "hook #2 of createRuntime " + list[1].Path + ": exit status 3: first line; went \\x1b[31mwrong"
	if err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if got := read(t, dir+"/log"); got != "1\n2\n" {
		t.Errorf("ran %q, want 1 2", got)
	}
	err = RunAll(context.Background(), Poststop, list, state, dir)
	if err == nil || read(t, dir+"/log") != "1\n2\n1\n2\n3\n" {
		t.Errorf("poststop: error %v, ran %q; all must run", err, read(t, dir+"/log"))
	}
}

func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(b), ") Z ")
}

func TestTimeoutKillsTheGroup(t *testing.T) {
	dir := t.TempDir()
	h := script(t, "sleep 600 & echo $! >child.new; mv child.new child; echo waiting >&2; wait")
	// A shell starts within that, and says so, which an idle machine does at once.
	seconds := int(2 * pace.Patience())
	h.Timeout = &seconds
	err := Run(context.Background(), h, state, dir)
	if err == nil || err.Error() != fmt.Sprintf("killed after its timeout of %ds: waiting", seconds) {
		t.Errorf("error %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, dir+"/child")))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second * pace.Patience()); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the hook's child outlived the timeout")
		}
	}
}

func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("the caller gave up")
	cancel(why)
	if err := Run(ctx, script(t, "exec sleep 600"), state, t.TempDir()); err == nil {
		t.Error("no error with a context that has ended")
	}
}

// A background process that holds all of the hook's files doesn't keep Run.
func TestBackgroundProcess(t *testing.T) {
	dir := t.TempDir()
	big := &specs.State{ID: strings.Repeat("x", 1<<20)} // more than a pipe holds
	h := script(t, "sleep 600 & echo $! >child")
	done := make(chan error, 1)
	go func() { done <- Run(context.Background(), h, big, dir) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second * pace.Patience()):
		t.Error("Run waits for the background process")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, dir+"/child")))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Error("the background process was killed")
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

func TestErrors(t *testing.T) {
	if err := Run(context.Background(), specs.Hook{Path: "/no/such/hook"}, state, "/"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing program: %v", err)
	}
	h := script(t, "head -c 100000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; kill -9 $$")
	err := Run(context.Background(), h, state, "/")
	if err == nil || len(err.Error()) > 2*tailSize || !strings.HasSuffix(err.Error(), "; end") || !strings.HasPrefix(err.Error(), "signal: killed: …x") {
		t.Errorf("long standard error: %.80q", err)
	}
}
