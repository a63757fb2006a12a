// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// FuzzParse: no bytes on stdin change whose shim is asked for, and only
// parameters of that very container make the answer a protobuf.
func FuzzParse(f *testing.F) {
	seed := func(m proto.Message, id, ns, url string) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, id, ns, url, true)
		f.Add(b[:len(b)/2], id, ns, url, false)
	}
	dir := "/run/other"
	runc, err := proto.Marshal(&options.Options{ShimCgroup: "/shims"})
	if err != nil {
		f.Fatal(err)
	}
	typed := &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: runc}
	seed(&bootapi.BootstrapParams{
		InstanceID: "box", Namespace: "ns", LogLevel: bootapi.LogLevel_LOG_LEVEL_TRACE, SocketDir: &dir,
		ContainerdTtrpcAddress: "/t", ContainerdGrpcAddress: "/g", Extensions: []*bootapi.Extension{{Value: typed}, {}, nil},
	}, "box", "ns", "containerd.runc.v1.Options")
	seed(typed, "box", "ns", "type.googleapis.com/runtimeoptions.v1.Options")
	seed(&anypb.Any{TypeUrl: "box", Value: []byte("ns")}, "box", "ns", "")
	f.Add([]byte(nil), "box", "k8s.io", "/", false)
	f.Add([]byte("\xff\xff\xff"), "a", "b", "x/y/containerd.runc.v1.Options", false)
	f.Fuzz(func(t *testing.T, stdin []byte, id, ns, url string, debug bool) {
		if id == "" || ns == "" {
			return // refused before
		}
		flags := Request{Namespace: ns, ID: id, Bundle: "/b", Address: "/grpc", TTRPCAddress: "/ttrpc", Debug: debug}
		r := parsed(t, flags, stdin)
		if r.Modern {
			var p bootapi.BootstrapParams
			if err := proto.Unmarshal(stdin, &p); err != nil || p.GetInstanceID() != id || p.GetNamespace() != ns {
				t.Errorf("parameters of %q in %q are taken for those of %q in %q (%v)", p.GetInstanceID(), p.GetNamespace(), id, ns, err)
			}
		}
		if !utf8.ValidString(id) || !utf8.ValidString(ns) || !utf8.ValidString(url) {
			return // what no protobuf can carry
		}
		// The same options in both forms.
		a := &anypb.Any{TypeUrl: url, Value: stdin}
		old := parsed(t, flags, marshal(t, a))
		if old.Modern && (url != id || string(stdin) != ns) {
			t.Errorf("options of type %q are taken for parameters", url)
		}
		p := &bootapi.BootstrapParams{InstanceID: id, Namespace: ns, Extensions: []*bootapi.Extension{{Value: a}}}
		modern := parsed(t, flags, marshal(t, p))
		if !modern.Modern {
			t.Error("parameters of the very container are not seen as such")
		}
		if !old.Modern && modern.ShimCgroup != old.ShimCgroup {
			t.Errorf("the options' cgroup is %q in the new form and %q in the old", modern.ShimCgroup, old.ShimCgroup)
		}
		if a.MessageName() != "containerd.runc.v1.Options" && modern.ShimCgroup != "" {
			t.Errorf("options of type %q give the cgroup %q", url, modern.ShimCgroup)
		}
		for _, other := range []*bootapi.BootstrapParams{
			{InstanceID: id + "x", Namespace: ns, LogLevel: bootapi.LogLevel_LOG_LEVEL_DEBUG, SocketDir: &url, ContainerdTtrpcAddress: "/else"},
			{InstanceID: id, Namespace: ns + "x", LogLevel: bootapi.LogLevel_LOG_LEVEL_DEBUG, SocketDir: &url, ContainerdTtrpcAddress: "/else"},
		} {
			if r := parsed(t, flags, marshal(t, other)); r.Modern {
				t.Errorf("parameters of another container (%v) are taken", other)
			}
		}
	})
}

// parsed is a request after Parse, with what holds for all of them checked.
func parsed(t *testing.T, flags Request, stdin []byte) Request {
	t.Helper()
	r := flags
	r.Parse(stdin)
	if r.ID != flags.ID || r.Namespace != flags.Namespace || r.Bundle != flags.Bundle {
		t.Errorf("stdin changed whose shim is asked for: %+v", r)
	}
	if flags.Debug && !r.Debug {
		t.Error("stdin took -debug away")
	}
	if !r.Modern {
		want := flags
		want.SocketDir, want.ShimCgroup = defaultSocketDir, r.ShimCgroup
		if r != want {
			t.Errorf("the old form changed more than the cgroup: %+v, flags %+v", r, flags)
		}
	}
	const address = "unix:///run/s"
	answer, err := r.Answer(address)
	if err != nil {
		t.Fatal(err)
	}
	var result bootapi.BootstrapResult
	switch {
	case !r.Modern && string(answer) != address:
		t.Errorf("the old answer is %q", answer)
	case r.Modern && (proto.Unmarshal(answer, &result) != nil || result.GetVersion() != 3 || result.GetAddress() != address || result.GetProtocol() != "ttrpc"):
		t.Errorf("the new answer is %q", answer)
	}
	return r
}

// FuzzSocketPath: two pods never share a socket, and a socket is in its folder.
func FuzzSocketPath(f *testing.F) {
	f.Add("/run/containerd/s", "/run/containerd/containerd.sock", "k8s.io", "pod", "moby", "pod")
	f.Add("/s", "", "a", "b", "a", "c")
	f.Add("/s", "/c.sock", "a/b", "c", "a", "b/c")
	f.Add("/s", "/c.sock", "a", "..", "b", "..")
	f.Add("/s/../x", "/c.sock", "a", ".", ".", "a")
	f.Fuzz(func(t *testing.T, dir, address, ns1, group1, ns2, group2 string) {
		a, err1 := socketPath(dir, address, ns1, group1)
		b, err2 := socketPath(dir, address, ns2, group2)
		if err1 != nil || err2 != nil {
			return
		}
		if a == b && (ns1 != ns2 || group1 != group2) {
			t.Errorf("%q in %q and %q in %q share %s", group1, ns1, group2, ns2, a)
		}
		if digest, err := hex.DecodeString(filepath.Base(a)); err != nil || len(digest) != 32 || len(a) > 107 || strings.ContainsRune(a, 0) {
			t.Errorf("the socket is %q (%v)", a, err)
		}
	})
}
