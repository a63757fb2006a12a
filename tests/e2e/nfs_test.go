// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

// ganesha is the configuration of a server in user space, whose export is its own memory:
// files of the host's disk it would open by handles, which the kernel refuses.
const ganesha = `
NFS_CORE_PARAM { Protocols = 4; Allow_Set_Io_Flusher_Fail = true; Enable_NLM = false; Enable_RQUOTA = false; }
MEM { Inode_Size = 4096; }
NFSV4 { Graceless = true; RecoveryBackend = fs; }
EXPORT { Export_Id = 1; Path = /mem; Pseudo = /mem; Access_Type = RW; Squash = No_Root_Squash; SecType = sys; FSAL { Name = MEM; } }
`

// TestNFS: a server of NFS in user space runs in a container and serves clients in
// another, over a cable between the two.
func TestNFS(t *testing.T) {
	h := on(t, peers.Newest)
	server, client := h.nfs(t), h.nfs(t)
	cable(t, server, client)
	start := "set -e; mkdir -p /run/ganesha /var/lib/nfs/ganesha; cat >/etc/ganesha/ganesha.conf <<'end'" + ganesha + "end\n" +
		"ganesha.nfsd -L /var/log/ganesha.log -f /etc/ganesha/ganesha.conf -p /run/ganesha.pid"
	if out, status := h.exec(t, server, nil, "sh", "-c", start); status != 0 {
		t.Fatalf("start the server: exit status %d\n%s", status, out)
	}
	for deadline := time.Now().Add(30 * time.Second * patience()); ; time.Sleep(time.Second) {
		out, _ := h.exec(t, server, nil, "grep", "-c", "NFS SERVER INITIALIZED", "/var/log/ganesha.log")
		if strings.TrimSpace(out) == "1" {
			break
		}
		if time.Now().After(deadline) {
			log, _ := h.exec(t, server, nil, "cat", "/var/log/ganesha.log")
			t.Fatalf("the server is not up:\n%s", log)
		}
	}
	const at = "nfs://192.0.2.1/mem/file?version=4"
	for _, c := range []struct{ script, want string }{
		{"echo from a client >/tmp/f && nfs-cp /tmp/f '" + at + "'", "copied 14 bytes\n"},
		{"nfs-cat '" + at + "'", "from a client\n"},
		{"nfs-ls 'nfs://192.0.2.1/mem?version=4'", "file\n"},
		{"grep -c nfs /proc/mounts", "0\n"},
	} {
		out, _ := h.exec(t, client, nil, "timeout", strconv.Itoa(int(60*patience())), "sh", "-c", c.script)
		if !strings.HasSuffix(out, c.want) {
			t.Errorf("%s in the client: %q, want %q", c.script, out, c.want)
		}
	}
}

// TestNFSOfTheKernel: no kernel makes the file systems by which its own server is ruled for
// a network of a container's, not even when the host's root asks, and its client mounts
// nothing in a container. docs/compatibility.md says so.
func TestNFSOfTheKernel(t *testing.T) {
	if !harness.Machine() {
		t.Skip("loads modules into the host's kernel, which is for a machine that the tests have to themselves (tests/vm)")
	}
	h := on(t, peers.Newest)
	onHost(t, "modprobe nfsd && modprobe nfs && modprobe nfsv4")
	task := h.nfs(t)
	dir := t.TempDir()
	for _, fs := range []string{"nfsd", "rpc_pipefs"} {
		out, err := exec.Command("nsenter", "-t", strconv.Itoa(int(task.Pid())), "-n", "mount", "-t", fs, fs, dir).CombinedOutput()
		if err == nil {
			t.Errorf("%s: the host's root can mount it for the container's network now; build on it", fs)
			onHost(t, "umount "+dir)
		} else if s := strings.ToLower(string(out)); !strings.Contains(s, "permi") && !strings.Contains(s, "not allowed") {
			t.Errorf("%s for the container's network: %s", fs, out)
		}
		out2, status := h.exec(t, task, nil, "mount", "-t", fs, fs, "/mnt")
		if status == 0 {
			t.Errorf("%s: the container can mount it now: %s", fs, out2)
		}
		t.Logf("%s: %s%s", fs, out, out2)
	}
	if out, status := h.exec(t, task, nil, "mount", "-i", "-t", "nfs4", "-o", "addr=127.0.0.1", "127.0.0.1:/", "/mnt"); status == 0 || !strings.Contains(out, "permission denied") {
		t.Errorf("a client's mount in the container: exit status %d, %q", status, out)
	}
}

// nfs runs a container of the image with what serves and reads NFS.
func (h *host) nfs(t *testing.T, opts ...oci.SpecOpts) containerd.Task {
	t.Helper()
	name, err := images.NFS()
	if err != nil {
		t.Fatal(err)
	}
	image, err := h.Load(background(t), name)
	if err != nil {
		t.Fatal(err)
	}
	task, _ := h.task(t, h.container(t, image, append([]oci.SpecOpts{oci.WithProcessArgs("sleep", "1000")}, opts...)...), cio.NullIO)
	return task
}

// cable joins two containers' networks: 192.0.2.1 and 192.0.2.2.
func cable(t *testing.T, a, b containerd.Task) {
	t.Helper()
	script := fmt.Sprintf(`set -e
ip link add cable netns %d type veth peer name cable netns %d
i=1; for p in %d %d; do nsenter -t $p -n ip addr add 192.0.2.$i/24 dev cable; nsenter -t $p -n ip link set cable up; nsenter -t $p -n ip link set lo up; i=2; done`,
		a.Pid(), b.Pid(), a.Pid(), b.Pid())
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("join the networks: %v\n%s", err, out)
	}
}
