// SPDX-License-Identifier: Apache-2.0

// Package features answers -info: what the runtime can do, in the terms of containerd and the
// runtime specification.
//
// What does not belong here: whether this host meets the requirements of a container (packages
// admin and runtime/feature).
package features

import (
	"encoding/json"
	"io"
	"slices"

	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go"
	spec "github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"sysbox/runtime/feature"
	"sysbox/shim/version"
)

// featuresURL is the type under which containerd looks for the features.
const featuresURL = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

// WriteInfo answers -info: it writes containerd's RuntimeInfo, a protobuf. It does not read the
// options on stdin, since the features do not depend on them.
func WriteInfo(w io.Writer) error {
	f, err := json.Marshal(Supported())
	if err != nil {
		return err
	}
	b, err := proto.Marshal(&types.RuntimeInfo{
		Name:     version.Name,
		Version:  &types.RuntimeVersion{Version: version.Version, Revision: version.Revision},
		Features: &anypb.Any{TypeUrl: featuresURL, Value: f},
	})
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// Supported lists what the runtime can do, features.md of the runtime
// specification. containerd's CRI grants hostUsers: false only if it names the user
// namespace and idmapped mounts, and recursive read-only mounts only if it names
// rro.
func Supported() *spec.Features {
	yes, no := new(bool), new(bool)
	*yes = true
	return &spec.Features{
		OCIVersionMin: "1.0.0",
		OCIVersionMax: specs.Version,
		Hooks:         []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions:  mountOptions,

		PotentiallyUnsafeConfigAnnotations: ownAnnotations,
		Linux: &spec.Linux{
			Namespaces:      []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"},
			Capabilities:    capabilities,
			Cgroup:          &spec.Cgroup{V1: yes, V2: yes, Systemd: yes, SystemdUser: no, Rdma: yes},
			Seccomp:         &spec.Seccomp{Enabled: yes, Actions: seccompActions, Operators: seccompOperators, Archs: seccompArchs, KnownFlags: seccompFlags, SupportedFlags: supportedFlags()},
			Apparmor:        &spec.Apparmor{Enabled: yes},
			Selinux:         &spec.Selinux{Enabled: yes},
			IntelRdt:        &spec.IntelRdt{Enabled: no, Schemata: no, Monitoring: no},
			MemoryPolicy:    &spec.MemoryPolicy{Modes: memoryModes, Flags: memoryFlags},
			MountExtensions: &spec.MountExtensions{IDMap: &spec.IDMap{Enabled: yes}},
			NetDevices:      &spec.NetDevices{Enabled: yes},
		},
	}
}

// supportedFlags are the flags of seccomp filters that this kernel supports.
func supportedFlags() []string {
	out := slices.Clone(seccompFlags)
	if feature.SeccompWaitKillable() != nil {
		out = slices.DeleteFunc(out, func(f string) bool { return f == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" })
	}
	return out
}
