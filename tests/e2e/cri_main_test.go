// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

// node is a containerd as kubelet uses it.
type node struct {
	*host
	cri.RuntimeServiceClient
	images cri.ImageServiceClient
}

// nodes are by the version of containerd.
var nodes = map[string]*node{}

// pods runs a test under both containerds, and others, as kubelet would use them.
func pods(t *testing.T, f func(t *testing.T, n *node), others ...string) {
	for _, v := range here(t, slices.Concat(versions, others)) {
		t.Run(v, func(t *testing.T) { f(t, nodeOf(t, v)) })
	}
}

// nodeOf returns the node of a version, started by the first test that asks.
func nodeOf(t *testing.T, version string) *node {
	t.Helper()
	if why := skipped(); why != "" {
		t.Skip(why)
	}
	if nodes[version] == nil {
		n, err := startNode(version)
		if err != nil {
			t.Fatal(err)
		}
		nodes[version] = n
	}
	n := nodes[version]
	n.watch(t)
	return n
}

func startNode(version string) (*node, error) {
	c, err := harness.StartCRI(context.Background(), version, images.PauseName)
	if err != nil {
		return nil, err
	}
	hosts["cri "+version] = &host{Containerd: c} // which is stopped after the tests
	for _, image := range []func() (string, error){images.Pause, images.Busybox} {
		archive, err := image()
		if err != nil {
			return nil, err
		}
		if _, err := c.LoadKubernetes(context.Background(), archive); err != nil {
			return nil, err
		}
	}
	conn, err := grpc.NewClient("unix://"+c.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	n := &node{hosts["cri "+version], cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)}
	// The plugin hears of images by events.
	for deadline := time.Now().Add(20 * time.Second * patience()); ; time.Sleep(50 * time.Millisecond) {
		r, err := n.images.ImageStatus(context.Background(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: images.BusyboxName}})
		if err == nil && r.Image != nil {
			return n, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("CRI of containerd %s does not see the image: %w", version, err)
		}
	}
}

// sandbox is the configuration of a pod as kubelet gives it.
func sandbox(t *testing.T, options *cri.NamespaceOption) *cri.PodSandboxConfig {
	t.Helper()
	name := fmt.Sprintf("pod-%s-%d", session, count.Add(1))
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "default"},
		Hostname:     name,
		LogDirectory: t.TempDir(),
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    "/" + name,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: options},
		},
	}
}

// run makes a pod, which the test removes at its end.
func (n *node) runPod(t *testing.T, config *cri.PodSandboxConfig) string {
	t.Helper()
	r, err := n.RunPodSandbox(background(t), &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: harness.Handler})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.removePod(t, r.PodSandboxId) })
	return r.PodSandboxId
}

func (n *node) removePod(t *testing.T, pod string) {
	t.Helper()
	if _, err := n.StopPodSandbox(background(t), &cri.StopPodSandboxRequest{PodSandboxId: pod}); err != nil {
		t.Errorf("stop the pod: %v", err)
	}
	if _, err := n.RemovePodSandbox(background(t), &cri.RemovePodSandboxRequest{PodSandboxId: pod}); err != nil {
		t.Errorf("remove the pod: %v", err)
	}
}

// workload is the configuration of a container that runs a script.
func workload(pod *cri.PodSandboxConfig, name, script string) *cri.ContainerConfig {
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: images.BusyboxName},
		Command:  []string{"sh", "-c", script},
		LogPath:  name + ".log",
		Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
			NamespaceOptions: pod.Linux.SecurityContext.NamespaceOptions,
		}},
	}
}

// start makes a container in a pod and starts it.
func (n *node) start(t *testing.T, pod string, sandbox *cri.PodSandboxConfig, config *cri.ContainerConfig) string {
	t.Helper()
	ctx := background(t)
	c, err := n.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: pod, Config: config, SandboxConfig: sandbox})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: c.ContainerId}); err != nil {
		t.Fatal(err)
	}
	return c.ContainerId
}

// inside is what a command in a container says.
func (n *node) inside(t *testing.T, container, script string) string {
	t.Helper()
	r, err := n.ExecSync(background(t), &cri.ExecSyncRequest{ContainerId: container, Cmd: []string{"sh", "-c", script}, Timeout: 60 * int64(patience())})
	if err != nil {
		t.Fatal(err)
	}
	return string(r.Stdout) + string(r.Stderr)
}

// cniPrepared makes the plugins, which takes the network.
func cniPrepared() error {
	if _, err := peers.CNI(); err != nil {
		return err
	}
	_, err := images.Pause()
	return err
}
