// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sysbox/tests/harness"
	"sysbox/tests/peers"
)

// own is what a pod of its own namespaces asks for, host users or not.
func own(users *cri.UserNamespace) *cri.NamespaceOption {
	return &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER, UsernsOptions: users}
}

// mapped is hostUsers: false with ids that kubelet has chosen.
func mapped(host uint32) *cri.UserNamespace {
	m := []*cri.IDMapping{{HostId: host, ContainerId: 0, Length: 65536}}
	return &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: m, Gids: m}
}

// TestCRIPod: a pod that names the runtime, with host users (for kubelet; its ids are the
// shim's to give) and without, lives and dies as under runc.
func TestCRIPod(t *testing.T) {
	for name, c := range map[string]struct {
		options *cri.NamespaceOption
		uidMap  string
		admin   string // of the pod's network from inside
		others  []string
	}{
		// Its network namespace belongs to the host.
		"plain": {own(nil), " 262144\n", "refused\n", more},
		// Debian's is older than it.
		"hostUsers: false": {own(mapped(1 << 20)), "0    1048576      65536\n", "done\n", []string{peers.LTS, peers.Before}},
	} {
		t.Run(name, func(t *testing.T) {
			pods(t, func(t *testing.T, n *node) {
				ctx := background(t)
				box := sandbox(t, c.options)
				pod := n.runPod(t, box)
				volume := t.TempDir()
				config := workload(box, "one", "echo said; exec sleep 1000")
				mount := &cri.Mount{ContainerPath: "/volume", HostPath: volume}
				user := 0
				if users := c.options.UsernsOptions; users != nil && n.Containerd.Version == peers.OldStart { // has no idmapped volumes
					user = int(users.Uids[0].HostId)
					if err := os.Chown(volume, user, user); err != nil {
						t.Fatal(err)
					}
				} else if users != nil {
					mount.UidMappings, mount.GidMappings = users.Uids, users.Gids
				}
				config.Mounts = []*cri.Mount{mount}
				id := n.start(t, pod, box, config)
				other := n.start(t, pod, box, workload(box, "two", "exec sleep 1000"))

				status, err := n.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: pod})
				if err != nil || status.Status.State != cri.PodSandboxState_SANDBOX_READY || status.Status.Network.GetIp() == "" {
					t.Fatalf("the pod's status: %v, %v", status, err)
				}
				if got := n.inside(t, id, "cat /proc/self/uid_map"); !strings.HasSuffix(got, c.uidMap) {
					t.Errorf("the map of ids is %q, want it to end with %q", got, c.uidMap)
				}
				for _, x := range []string{id, other} {
					if got := n.inside(t, x, "ip -o addr show eth0; hostname; readlink /proc/self/ns/user"); !strings.Contains(got, " "+status.Status.Network.Ip+"/") || !strings.Contains(got, box.Hostname) {
						t.Errorf("in container %s of the pod at %s: %q", x, status.Status.Network.Ip, got)
					}
				}
				if a, b := n.inside(t, id, "readlink /proc/self/ns/user"), n.inside(t, other, "readlink /proc/self/ns/user"); a != b {
					t.Errorf("the pod's containers are in user namespaces %q and %q", a, b)
				}
				if got := n.inside(t, id, "ip link add x type bridge 2>/dev/null && echo done || echo refused"); got != c.admin {
					t.Errorf("adding a link in the pod's network is %q, want %q", got, c.admin)
				}
				if got := n.inside(t, id, "ls /sys/class/net | tr '\\n' ' '"); !strings.Contains(got, "eth0") {
					t.Errorf("/sys shows the links %q", got)
				}
				n.inside(t, id, "touch /volume/file")
				if i, err := os.Stat(filepath.Join(volume, "file")); err != nil {
					t.Error(err)
				} else if uid, gid := owner(i); uid != uint32(user) || gid != uint32(user) {
					t.Errorf("the file in the volume belongs to %d:%d, want %d", uid, gid, user)
				}
				if got := n.inside(t, id, file("cri-storage.sh")); !strings.HasPrefix(got, "0\n0\n") || strings.Contains(got, "overlay") || strings.Contains(got, "794c7630") {
					t.Errorf("the storage folder: %q", got)
				}
				if left, _ := os.ReadDir(filepath.Join(n.DataDir(), "storage")); len(left) > 0 {
					t.Errorf("the storage is not in the snapshot, but in %v", left)
				}
				stats, err := n.ContainerStats(ctx, &cri.ContainerStatsRequest{ContainerId: id})
				if err != nil || stats.Stats.GetMemory().GetWorkingSetBytes().GetValue() == 0 || stats.Stats.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 {
					t.Errorf("statistics %v, %v", stats, err)
				}
				if b, err := os.ReadFile(filepath.Join(box.LogDirectory, "one.log")); err != nil || !strings.Contains(string(b), " stdout F said\n") {
					t.Errorf("the log: %q, %v", b, err)
				}
				if _, err := n.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 0}); err != nil {
					t.Fatal(err)
				}
				s, err := n.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
				if err != nil || s.Status.State != cri.ContainerState_CONTAINER_EXITED || s.Status.ExitCode != 137 {
					t.Errorf("after the stop: %v, %v", s, err)
				}
				if _, err := n.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id}); err != nil {
					t.Error(err)
				}
				// Again in the same pod, as kubelet restarts a container.
				config.Metadata.Attempt = 1
				again := n.start(t, pod, box, config)
				if got := n.inside(t, again, "cat /proc/self/uid_map"); !strings.HasSuffix(got, c.uidMap) {
					t.Errorf("after the restart the map of ids is %q", got)
				}
			}, c.others...)
		})
	}
}

// TestCRISettings: annotations of a pod are settings of its containers, where the handler's
// pod_annotations let them through.
func TestCRISettings(t *testing.T) {
	pods(t, func(t *testing.T, n *node) {
		box := sandbox(t, own(nil))
		box.Annotations = map[string]string{"io.sysbox.syscont-mode": "FALSE"}
		pod := n.runPod(t, box)
		id := n.start(t, pod, box, workload(box, "one", "exec sleep 1000"))
		if got := n.inside(t, id, "grep CapEff /proc/1/status; ls -d /var/lib/docker 2>&1"); !strings.Contains(got, "00000000a80425fb") || !strings.Contains(got, "No such file") {
			t.Errorf("of an ordinary container: %q", got)
		}
		box.Annotations = map[string]string{"io.sysbox.nonsense": "1"}
		box.Metadata.Uid += "-2"
		box.Metadata.Name += "-2"
		if _, err := n.RunPodSandbox(background(t), &cri.RunPodSandboxRequest{Config: box, RuntimeHandler: harness.Handler}); err == nil || !strings.Contains(err.Error(), "io.sysbox.nonsense") {
			t.Errorf("an unknown annotation: %v", err)
		}
	})
}

// TestCRISharedProcesses: shareProcessNamespace: true.
func TestCRISharedProcesses(t *testing.T) {
	for name, users := range map[string]*cri.UserNamespace{"plain": nil, "hostUsers: false": mapped(1 << 20)} {
		t.Run(name, func(t *testing.T) {
			pods(t, func(t *testing.T, n *node) {
				box := sandbox(t, &cri.NamespaceOption{Pid: cri.NamespaceMode_POD, UsernsOptions: users})
				pod := n.runPod(t, box)
				n.start(t, pod, box, workload(box, "one", "exec sleep 4321"))
				two := n.start(t, pod, box, workload(box, "two", "exec sleep 1000"))
				if got := n.inside(t, two, "pidof sleep | wc -w; tr '\\0' ' ' </proc/1/cmdline"); got != "3\nsleep 1000000 " {
					t.Errorf("a container sees %q of the pod's processes", got)
				}
			})
		})
	}
}

// TestCRIRefused: what would break isolation is refused in words that reach kubelet.
func TestCRIRefused(t *testing.T) {
	pods(t, func(t *testing.T, n *node) {
		for name, c := range map[string]struct {
			options *cri.NamespaceOption
			want    string
		}{
			"hostNetwork": {&cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER}, "hostNetwork"},
			"hostPID":     {&cri.NamespaceOption{Pid: cri.NamespaceMode_NODE}, "hostPID"},
			"hostIPC":     {&cri.NamespaceOption{Ipc: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER}, "hostIPC"},
		} {
			t.Run(name, func(t *testing.T) {
				r, err := n.RunPodSandbox(background(t), &cri.RunPodSandboxRequest{Config: sandbox(t, c.options), RuntimeHandler: harness.Handler})
				if err == nil {
					n.removePod(t, r.PodSandboxId)
				}
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("the answer is %v, and does not name %s", err, c.want)
				}
			})
		}
		t.Run("privileged", func(t *testing.T) {
			box := sandbox(t, own(nil))
			box.Linux.SecurityContext.Privileged = true
			pod := n.runPod(t, box)
			config := workload(box, "one", "sleep 1000")
			config.Linux.SecurityContext.Privileged = true
			c, err := n.CreateContainer(background(t), &cri.CreateContainerRequest{PodSandboxId: pod, Config: config, SandboxConfig: box})
			if err == nil {
				_, err = n.StartContainer(background(t), &cri.StartContainerRequest{ContainerId: c.ContainerId})
			}
			if err == nil || !strings.Contains(err.Error(), "privileged") {
				t.Errorf("the answer is %v, and does not name privileged", err)
			}
		})
	})
}

// TestCRIOutOfMemory: kubelet is told why a container ended.
func TestCRIOutOfMemory(t *testing.T) {
	pods(t, func(t *testing.T, n *node) {
		box := sandbox(t, own(nil))
		pod := n.runPod(t, box)
		config := workload(box, "one", "tail /dev/zero")
		config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 32 << 20}
		id := n.start(t, pod, box, config)
		var s *cri.ContainerStatusResponse
		for deadline := time.Now().Add(time.Minute * patience()); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			var err error
			if s, err = n.ContainerStatus(background(t), &cri.ContainerStatusRequest{ContainerId: id}); err != nil {
				t.Fatal(err)
			}
			if s.Status.State == cri.ContainerState_CONTAINER_EXITED {
				break
			}
		}
		if s.Status.Reason != "OOMKilled" || s.Status.ExitCode != 137 {
			t.Errorf("it ended with %d, %q", s.Status.ExitCode, s.Status.Reason)
		}
	})
}
