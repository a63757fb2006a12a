// SPDX-License-Identifier: Apache-2.0

package task

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	api "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// FuzzCreateOptions: options of any type and content are read or refused as InvalidArgument,
// and none that this runtime cannot honour is passed over.
func FuzzCreateOptions(f *testing.F) {
	for _, m := range []proto.Message{
		&options.Options{IoUid: 5, SystemdCgroup: true}, &options.Options{BinaryName: "crun"}, &options.Options{NoPivotRoot: true, Root: "/x"},
		&runtimeoptions.Options{ConfigBody: []byte("SystemdCgroup = true\nIoUid = 7\n")}, &runtimeoptions.Options{ConfigBody: []byte("Root = \"/x\"\n[a]\n")},
		&runtimeoptions.Options{ConfigPath: "/nonexistent"},
	} {
		a, err := anypb.New(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.GetTypeUrl(), a.GetValue())
		f.Add(string(a.MessageName()), a.GetValue())
	}
	f.Add("", []byte(nil))
	f.Add("x/", []byte{1})
	f.Fuzz(func(t *testing.T, url string, value []byte) {
		o, err := readOptions(&anypb.Any{TypeUrl: url, Value: value})
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("not InvalidArgument: %v", err)
			}
			return
		}
		var r options.Options
		switch name := (&anypb.Any{TypeUrl: url}).MessageName(); {
		case url == "" && len(value) == 0, name == "runtimeoptions.v1.Options":
		case name != "containerd.runc.v1.Options":
			t.Errorf("options of type %q were taken", url)
		case proto.Unmarshal(value, &r) != nil || r.GetBinaryName() != "" || r.GetRoot() != "" || r.GetNoPivotRoot():
			t.Errorf("options %v were taken", &r)
		case o.uid != int(r.GetIoUid()) || o.gid != int(r.GetIoGid()) || (o.systemdCgroup != nil) != r.GetSystemdCgroup():
			t.Errorf("options %v are read as %+v", &r, o)
		}
	})
}

// FuzzRequests: the bodies of Exec and Update that are no protobuf never bring the service
// down, and what is taken is what was sent.
func FuzzRequests(f *testing.F) {
	const prefix = "types.containerd.io/"
	f.Add(prefix+processURL, prefix+resourcesURL, []byte(`{"args":["sh"],"cwd":"/","user":{"uid":5}}`), []byte(`{"pids":{"limit":7},"devices":[null]}`), "e1")
	f.Add("", "", []byte("null"), []byte("null"), "")
	f.Add(processURL, "windows", []byte(`[]`), []byte(`{"memory":`), "box")
	f.Add("x", resourcesURL+"x", []byte(nil), []byte(`{"Pids":{"LIMIT":-9223372036854775808}}`), "../e")
	f.Fuzz(func(t *testing.T, execURL, updateURL string, process, resources []byte, id string) {
		if !utf8.ValidString(id) {
			return // what no protobuf can carry
		}
		r := newRig(t)
		r.create("box")
		_, err := r.Exec(t.Context(), &api.ExecProcessRequest{ID: "box", ExecID: id, Spec: &anypb.Any{TypeUrl: execURL, Value: process}})
		var p specs.Process
		if ok := json.Unmarshal(process, &p) == nil; err == nil && (!ok || id == "" || id == "box") {
			t.Errorf("exec %q with %q was taken", id, process)
		}
		_, err = r.Update(t.Context(), &api.UpdateTaskRequest{ID: "box", Resources: &anypb.Any{TypeUrl: updateURL, Value: resources}})
		var want specs.LinuxResources
		parse := json.Unmarshal(resources, &want)
		if err == nil && parse != nil {
			t.Errorf("update with %q was taken", resources)
		}
		if err == nil {
			a, _ := json.Marshal(want)
			if b, _ := json.Marshal(r.pod.containers["box"].update); string(a) != string(b) {
				t.Errorf("update with %s reached the container as %s", a, b)
			}
		}
	})
}
