package shim

import (
	"encoding/json"
	"io"
	"slices"

	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"sysbox/runtime/feature"
)

// featuresURL is the type under which containerd looks for the features.
const featuresURL = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

// writeInfo answers -info. The options on stdin are not read: what the
// runtime can do does not depend on them.
func writeInfo(w io.Writer) error {
	f, err := json.Marshal(Features())
	if err != nil {
		return err
	}
	b, err := proto.Marshal(&types.RuntimeInfo{
		Name:     Name,
		Version:  &types.RuntimeVersion{Version: Version, Revision: Revision},
		Features: &anypb.Any{TypeUrl: featuresURL, Value: f},
	})
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// Features is what the runtime can do, features.md of the runtime
// specification. containerd's CRI grants hostUsers: false only if the user
// namespace and idmapped mounts are in it, recursive read-only mounts only if
// rro is.
func Features() *features.Features {
	yes, no := new(bool), new(bool)
	*yes = true
	return &features.Features{
		OCIVersionMin: "1.0.0",
		OCIVersionMax: specs.Version,
		Hooks:         []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions:  mountOptions,

		PotentiallyUnsafeConfigAnnotations: ownAnnotations,
		Linux: &features.Linux{
			Namespaces:      []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"},
			Capabilities:    capabilities,
			Cgroup:          &features.Cgroup{V1: yes, V2: yes, Systemd: yes, SystemdUser: no, Rdma: yes},
			Seccomp:         &features.Seccomp{Enabled: yes, Actions: seccompActions, Operators: seccompOperators, Archs: seccompArchs, KnownFlags: seccompFlags, SupportedFlags: supportedFlags()},
			Apparmor:        &features.Apparmor{Enabled: yes},
			Selinux:         &features.Selinux{Enabled: yes},
			IntelRdt:        &features.IntelRdt{Enabled: no, Schemata: no, Monitoring: no},
			MemoryPolicy:    &features.MemoryPolicy{Modes: memoryModes, Flags: memoryFlags},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: yes}},
			NetDevices:      &features.NetDevices{Enabled: yes},
		},
	}
}

// supportedFlags are the flags of seccomp filters that this kernel has.
func supportedFlags() []string {
	out := slices.Clone(seccompFlags)
	if feature.SeccompWaitKillable() != nil {
		out = slices.DeleteFunc(out, func(f string) bool { return f == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" })
	}
	return out
}
