// SPDX-License-Identifier: Apache-2.0

// Package bootstrap is the shim's start action: it finds the shim that serves
// the pod of a container, or starts one, and answers its address in the form
// that the caller understands.
//
// What does not belong here: the life of the daemon (package daemon), and
// anything that takes time, since each container start waits for this
// package.
package bootstrap

import (
	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Request is what the caller asks of start, in either form.
type Request struct {
	Namespace string
	ID        string
	Bundle    string // absolute path
	// Address of containerd's gRPC API; it only names the socket. Empty under CRI-O.
	Address string
	// TTRPCAddress is where events go; empty: events are dropped.
	TTRPCAddress string
	Debug        bool
	// SocketDir holds the shim's socket.
	SocketDir string
	// ShimCgroup is the cgroup for the shim, a path below the roots of the
	// hierarchies; empty: stay in the cgroup of the caller.
	ShimCgroup string
	// Modern callers (containerd 2.3 and newer) read a protobuf answer; older
	// ones and CRI-O read a bare address.
	Modern bool
}

// defaultSocketDir is where containerd's own shims keep their sockets.
const defaultSocketDir = "/run/containerd/s"

// debugLevel is BootstrapParams' LOG_LEVEL_DEBUG; lower is more verbose.
const debugLevel = bootapi.LogLevel_LOG_LEVEL_DEBUG

// Parse completes a request from the bytes on stdin. containerd 2.3 and newer
// sends BootstrapParams, whose ids repeat the flags; older callers send an Any
// with the runtime's options, or nothing. An Any decoded as BootstrapParams has
// a type URL as its id, so comparing ids tells the two apart.
func (r *Request) Parse(stdin []byte) {
	r.SocketDir = defaultSocketDir
	var p bootapi.BootstrapParams
	if len(stdin) > 0 && proto.Unmarshal(stdin, &p) == nil &&
		p.GetInstanceID() == r.ID && p.GetNamespace() == r.Namespace {
		r.Modern = true
		r.Debug = r.Debug || p.GetLogLevel() <= debugLevel
		if a := p.GetContainerdTtrpcAddress(); a != "" {
			r.TTRPCAddress = a
		}
		if a := p.GetContainerdGrpcAddress(); a != "" {
			r.Address = a
		}
		if d := p.GetSocketDir(); d != "" {
			r.SocketDir = d
		}
		for _, e := range p.GetExtensions() {
			r.readOptions(e.GetValue())
		}
		return
	}
	var a anypb.Any
	if proto.Unmarshal(stdin, &a) == nil {
		r.readOptions(&a)
	}
}

// readOptions takes from the options of the runtime what is needed before Create.
// Create checks options of other types.
func (r *Request) readOptions(a *anypb.Any) {
	var o options.Options
	if a.MessageName() != o.ProtoReflect().Descriptor().FullName() {
		return
	}
	if proto.Unmarshal(a.GetValue(), &o) == nil && o.GetShimCgroup() != "" {
		r.ShimCgroup = o.GetShimCgroup()
	}
}

// Answer is what start writes to stdout. MountCapabilities is set, though empty:
// without it containerd runs -info before the first Create.
func (r *Request) Answer(address string) ([]byte, error) {
	if !r.Modern {
		return []byte(address), nil
	}
	caps, err := anypb.New(&types.MountCapabilities{})
	if err != nil {
		return nil, err
	}
	// Without the prefix that anypb adds: containerd does not use it.
	caps.TypeUrl = string(caps.MessageName())
	return proto.Marshal(&bootapi.BootstrapResult{
		Version:    3,
		Address:    address,
		Protocol:   "ttrpc",
		Extensions: []*bootapi.Extension{{Value: caps}},
	})
}
