// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"sysbox/tests/peers"
)

// Kubernetes is the namespace of containerd's CRI plugin.
const Kubernetes = "k8s.io"

// Handler is the name of the shim in CRI's configuration, as a RuntimeClass gives it.
const Handler = "sysbox"

// criTables are the names of the CRI plugin's tables.
func criTables(version string) (images, runtime string) {
	if strings.HasPrefix(version, "1.") {
		return "io.containerd.grpc.v1.cri", "io.containerd.grpc.v1.cri"
	}
	return "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"
}

// CRIConfig is the part of containerd's configuration that docs/configuration.md has
// users write, and what this kind of machine asks for. pause is the image of the pods'
// sandboxes, plugins and networks are CNI's folders, more are lines for the plugin's own table.
func CRIConfig(version, pause, plugins, networks string, more ...string) string {
	images, runtime := criTables(version)
	folder := fmt.Sprintf("bin_dirs = [%q]", plugins)
	if images == runtime {
		folder = fmt.Sprintf("bin_dir = %q", plugins)
	}
	var b strings.Builder
	if images == runtime {
		fmt.Fprintf(&b, "[plugins.%q]\nsandbox_image = %q\n", images, pause)
	} else {
		fmt.Fprintf(&b, "[plugins.%q.pinned_images]\nsandbox = %q\n[plugins.%q]\n", images, pause, runtime)
	}
	// Where the tests run, root may not lower a process's oom_score_adj.
	fmt.Fprintf(&b, "restrict_oom_score_adj = true\n%s\n[plugins.%q.cni]\n%s\nconf_dir = %q\n", strings.Join(more, "\n"), runtime, folder, networks)
	fmt.Fprintf(&b, "[plugins.%[1]q.containerd]\ndefault_runtime_name = %[2]q\n[plugins.%[1]q.containerd.runtimes.%[2]s]\nruntime_type = %[3]q\npod_annotations = [\"io.sysbox.*\"]\n", runtime, Handler, Runtime)
	return b.String()
}

// Network is a CNI configuration that leaves nothing behind on the host's side: a pair
// of links for each pod, which goes with the pod. A pod with an address of IPv6 is half a second in the making, as
// the kernel looks for others that have it.
func Network(subnets ...string) string {
	var ranges []string
	for _, s := range subnets {
		ranges = append(ranges, fmt.Sprintf(`[{"subnet": %q}]`, s))
	}
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local",
    "ranges": [%s], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}`, strings.Join(ranges, ", "))
}

// StartCRI starts containerd of a version with its CRI plugin. The namespaces are to be
// those of [Private].
func StartCRI(ctx context.Context, version, pause string) (*Containerd, error) {
	plugins, err := peers.CNI()
	if err != nil {
		return nil, err
	}
	if err := PodHost(); err != nil {
		return nil, err
	}
	shim, err := peers.Shim()
	if err != nil {
		return nil, err
	}
	return start(ctx, version, shim, `disabled_plugins = ["io.containerd.nri.v1.nri"]`, CRIConfig(version, pause, plugins, "DIR/net.d"),
		map[string]string{"net.d/pods.conflist": Network("10.88.0.0/16")})
}

// PodHost gives a machine of the tests' own what a host of pods has: a loopback device,
// and folders in which CNI remembers what it has made. A run of [Private] has them.
var PodHost = sync.OnceValue(func() error {
	if !Machine() {
		return nil
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip link set lo up: %w\n%s", err, out)
	}
	for _, dir := range []string{"/run/netns", "/var/lib/cni"} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
		if err := syscall.Mount("pods", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	return nil
})

// LoadKubernetes imports an image's archive for pods.
func (c *Containerd) LoadKubernetes(ctx context.Context, archive string) (containerd.Image, error) {
	return c.load(namespaces.WithNamespace(ctx, Kubernetes), archive)
}
