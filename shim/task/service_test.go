// SPDX-License-Identifier: Apache-2.0

package task

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	api "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	apitask "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"sysbox/shim/bundle"
)

func TestStates(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	state := func(exec string) apitask.Status {
		t.Helper()
		s, err := r.State(ctx, &api.StateRequest{ID: "box", ExecID: exec})
		if err != nil {
			t.Fatal(err)
		}
		return s.Status
	}
	expect := func(exec string, want apitask.Status) {
		t.Helper()
		if got := state(exec); got != want {
			t.Errorf("state of %q is %v, want %v", exec, got, want)
		}
	}
	r.create("box")
	expect("", apitask.Status_CREATED)
	r.start("box", "")
	expect("", apitask.Status_RUNNING)
	_, err := r.Start(ctx, &api.StartRequest{ID: "box"})
	wantCode(t, err, errdefs.ErrFailedPrecondition, "second start")
	if !strings.Contains(err.Error(), "cannot start a running process") {
		t.Errorf("error is %q", err)
	}
	_, err = r.Delete(ctx, &api.DeleteRequest{ID: "box"})
	wantCode(t, err, errdefs.ErrFailedPrecondition, "delete of a running process")
	_, err = r.Create(ctx, &api.CreateTaskRequest{ID: "box", Bundle: t.TempDir()})
	wantCode(t, err, errdefs.ErrAlreadyExists, "second create")

	r.exec("box", "e")
	expect("e", apitask.Status_CREATED)
	_, err = r.Kill(ctx, &api.KillRequest{ID: "box", ExecID: "e", Signal: 9})
	wantCode(t, err, errdefs.ErrFailedPrecondition, "kill of an exec that was not started")
	_, err = r.Exec(ctx, &api.ExecProcessRequest{ID: "box", ExecID: "e", Spec: &anypb.Any{Value: []byte("{}")}})
	wantCode(t, err, errdefs.ErrAlreadyExists, "second exec of the name")

	if _, err := r.Pause(ctx, &api.PauseRequest{ID: "box"}); err != nil {
		t.Fatal(err)
	}
	expect("", apitask.Status_PAUSED)
	_, err = r.Start(ctx, &api.StartRequest{ID: "box", ExecID: "e"})
	wantCode(t, err, errdefs.ErrFailedPrecondition, "exec while paused")
	_, err = r.Pause(ctx, &api.PauseRequest{ID: "box"})
	wantCode(t, err, errdefs.ErrFailedPrecondition, "second pause")
	if _, err := r.Resume(ctx, &api.ResumeRequest{ID: "box"}); err != nil {
		t.Fatal(err)
	}
	r.start("box", "e")
	expect("e", apitask.Status_RUNNING)
	pids, err := r.Pids(ctx, &api.PidsRequest{ID: "box"})
	if err != nil || len(pids.Processes) != 2 || pids.Processes[1].Info.GetTypeUrl() != "containerd.runc.v1.ProcessDetails" {
		t.Errorf("pids are %v, %v", pids, err)
	}
	if _, err := r.Kill(ctx, &api.KillRequest{ID: "box", ExecID: "e", Signal: 15}); err != nil {
		t.Fatal(err)
	}
	if w := r.wait("box", "e"); w.ExitStatus != 143 {
		t.Errorf("status is %d, want 128 + 15", w.ExitStatus)
	}
	expect("e", apitask.Status_STOPPED)
	_, err = r.Kill(ctx, &api.KillRequest{ID: "box", ExecID: "e", Signal: 15})
	wantCode(t, err, errdefs.ErrNotFound, "kill of what has ended")
	_, err = r.Kill(ctx, &api.KillRequest{ID: "box", Signal: 99})
	wantCode(t, err, errdefs.ErrInvalidArgument, "signal 99")
	if _, err := r.Kill(ctx, &api.KillRequest{ID: "box", Signal: 9, All: true}); err != nil {
		t.Fatal(err)
	}
	r.wait("box", "")
	_, err = r.Exec(ctx, &api.ExecProcessRequest{ID: "box", ExecID: "late", Spec: &anypb.Any{Value: []byte("{}")}})
	wantCode(t, err, errdefs.ErrFailedPrecondition, "exec after init's end")
}

// Under cgroup v1 a frozen process does not die of a SIGKILL.
func TestKillOfPaused(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.create("box")
	r.start("box", "")
	b := r.pod.containers["box"]
	if _, err := r.Pause(ctx, &api.PauseRequest{ID: "box"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Kill(ctx, &api.KillRequest{ID: "box", Signal: 9}); err != nil {
		t.Fatal(err)
	}
	if b.resumed != 1 {
		t.Errorf("thawed %d times", b.resumed)
	}
	r.wait("box", "")
}

func TestUnknown(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	_, err := r.Delete(ctx, &api.DeleteRequest{ID: "no"})
	wantCode(t, err, errdefs.ErrNotFound, "delete")
	_, err = r.Pids(ctx, &api.PidsRequest{ID: "no"})
	wantCode(t, err, errdefs.ErrNotFound, "pids")
	c, err := r.Connect(ctx, &api.ConnectRequest{ID: "no"})
	if err != nil || c.ShimPid != uint32(os.Getpid()) || c.TaskPid != 0 {
		t.Errorf("connect gave %v, %v; it must never fail", c, err)
	}
	_, err = r.Checkpoint(ctx, &api.CheckpointTaskRequest{ID: "no"})
	wantCode(t, err, errdefs.ErrNotImplemented, "checkpoint")
}

// NotImplemented from Create makes containerd call it a second time.
func TestCreateErrors(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	_, err := r.Create(ctx, &api.CreateTaskRequest{ID: "box", Checkpoint: "/x"})
	wantCode(t, err, errdefs.ErrInvalidArgument, "restore")

	r.pod.create = func() error { return fmt.Errorf("mount: %w", errdefs.ErrNotImplemented) }
	_, err = r.Create(ctx, &api.CreateTaskRequest{ID: "box", Bundle: t.TempDir()})
	wantCode(t, err, errdefs.ErrFailedPrecondition, "not implemented below")

	// What failed is gone: containerd's next calls say so.
	_, err = r.Delete(ctx, &api.DeleteRequest{ID: "box"})
	wantCode(t, err, errdefs.ErrNotFound, "delete after a failed create")
	if _, err := r.Shutdown(ctx, &api.ShutdownRequest{ID: "box"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.stop:
	default:
		t.Error("a shim without containers went on after Shutdown")
	}
	_, err = r.Create(ctx, &api.CreateTaskRequest{ID: "late", Bundle: t.TempDir()})
	wantCode(t, err, errdefs.ErrFailedPrecondition, "create after shutdown")
}

func TestShutdownWithSiblings(t *testing.T) {
	r := newRig(t)
	r.create("one")
	r.create("two")
	r.delete("one", "")
	if _, err := r.Shutdown(t.Context(), &api.ShutdownRequest{ID: "one", Now: true}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.stop:
		t.Error("the shim ended with a container left")
	default:
	}
}

func TestExitFile(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	if _, err := r.Create(t.Context(), &api.CreateTaskRequest{ID: "box", Bundle: dir}); err != nil {
		t.Fatal(err)
	}
	if pid, err := bundle.ReadInitPid(dir); err != nil || pid != 1000 {
		t.Errorf("init.pid is %d, %v", pid, err)
	}
	r.start("box", "")
	r.pod.containers["box"].init.end(42)
	r.wait("box", "")
	if e, err := bundle.ReadExit(dir); err != nil || e.Status != 42 || e.Pid != 1000 || e.At.IsZero() {
		t.Errorf("exit.json is %+v, %v", e, err)
	}
}

func TestOptions(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(conf, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wrap := func(m proto.Message) *anypb.Any {
		a, err := toAny(m)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	generic := func(body string) *anypb.Any {
		return wrap(&runtimeoptions.Options{TypeUrl: "x", ConfigBody: []byte(body)})
	}
	for _, c := range []struct {
		name string
		in   *anypb.Any
		err  string
		ok   func(o createOptions) bool
	}{
		{"none", nil, "", func(o createOptions) bool { return o == createOptions{} }},
		{"runc", wrap(&options.Options{IoUid: 5, IoGid: 6, SystemdCgroup: true}), "", func(o createOptions) bool {
			return o.uid == 5 && o.gid == 6 && *o.systemdCgroup
		}},
		{"runc's default", wrap(&options.Options{}), "", func(o createOptions) bool { return o.systemdCgroup == nil }},
		{"runc's binary", wrap(&options.Options{BinaryName: "crun"}), "BinaryName", nil},
		{"runc's root", wrap(&options.Options{Root: "/x"}), "Root", nil},
		{"the host's keyring", wrap(&options.Options{NoNewKeyring: true}), "NoNewKeyring", nil},
		{"no pivot", wrap(&options.Options{NoPivotRoot: true}), "NoPivotRoot", nil},
		{"path", wrap(&runtimeoptions.Options{ConfigPath: conf, ConfigBody: []byte("nonsense")}), "", func(o createOptions) bool { return o.configPath == conf }},
		{"relative path", wrap(&runtimeoptions.Options{ConfigPath: "options.go"}), `"options.go"; it must be an absolute path`, nil},
		{"path to nothing", wrap(&runtimeoptions.Options{ConfigPath: "/no/such"}), "/no/such", nil},
		{"body", generic("SystemdCgroup = true\n"), "", func(o createOptions) bool { return *o.systemdCgroup }},
		{"empty body", generic("\n"), "", func(o createOptions) bool { return o == createOptions{} }},
		{"unknown key", generic("Nonsense = 1\n"), "Nonsense", nil},
		{"unknown type", &anypb.Any{TypeUrl: "some.Thing", Value: []byte{1}}, "some.Thing", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := readOptions(c.in)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !errdefs.IsInvalidArgument(err) {
					t.Errorf("error is %v, want InvalidArgument that names %s", err, c.err)
				}
				return
			}
			if err != nil || !c.ok(o) {
				t.Errorf("options are %+v, %v", o, err)
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	r := newRig(t)
	r.create("box")
	_, err := r.Update(t.Context(), &api.UpdateTaskRequest{ID: "box", Resources: &anypb.Any{
		TypeUrl: "types.containerd.io/" + resourcesURL, Value: []byte(`{"pids":{"limit":7}}`),
	}})
	if err != nil || r.pod.containers["box"].update.Pids == nil {
		t.Errorf("update: %v", err)
	}
	_, err = r.Update(t.Context(), &api.UpdateTaskRequest{ID: "box", Resources: &anypb.Any{TypeUrl: "windows", Value: []byte(`{}`)}})
	wantCode(t, err, errdefs.ErrInvalidArgument, "resources of another kind")
}
