// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/peers"
)

// row is a script that runs in a system container: what it must print at its end, and its
// exit status.
type row struct {
	name, script string
	status       uint32
	want         string
}

// newestPrograms are binds of the newest programs, which no distribution has yet.
func newestPrograms(t *testing.T) oci.SpecOpts {
	t.Helper()
	var mounts []specs.Mount
	for name, build := range map[string]func() (string, error){
		"containerd": func() (string, error) { return peers.Containerd(peers.Newest) },
		"docker":     peers.Docker,
		"runc":       peers.Runc,
		"client":     func() (string, error) { return peers.Program(client) },
	} {
		dir, err := build()
		if err == nil {
			dir, err = filepath.EvalSymlinks(dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		mounts = append(mounts, specs.Mount{Destination: "/opt/newest/" + name, Type: "bind", Source: dir, Options: []string{"rbind", "ro"}})
	}
	return oci.WithMounts(mounts)
}

// client is a program of ours that uses containerd.
const client = "tests/e2e/testdata/client/client.go"

// newest is a prefix for scripts that use the newest programs.
const newest = "PATH=/opt/newest/docker:/opt/newest/containerd:/opt/newest/runc:/opt/newest/client:$PATH; C=/run/newest/c.sock; VERSION=" + peers.Newest + "; "

// of are rows for one of several programs.
func of(name, prefix string, rows []row) []row {
	out := make([]row, len(rows))
	for i, r := range rows {
		r.name, r.script = name+r.name, prefix+r.script
		out[i] = r
	}
	return out
}

// The busybox image has /tmp and no /mnt.
var dockerRows = []row{
	{name: " on a bridge", script: file("docker-bridge.sh"), want: "1 packets received"},
	{name: "'s overlay", script: "docker info --format '{{.Driver}} {{.CgroupVersion}}' | sed 's/^overlay2/overlayfs/'", want: "overlayfs 2"},
	{name: ", privileged", script: file("docker-privileged.sh"), want: "/tmp/d/null\n0"},
	{name: ", the container's network", script: "docker run --rm --net=host busybox:test ip link show docker0 | grep -o docker0", want: "docker0"},
	{name: " publishes a port", script: file("docker-port.sh"), want: "pong"},
	{name: " builds", script: file("docker-builds.sh"), want: "built"},
	{name: ", several containers on a network", script: file("docker-network.sh"), want: "pong"},
	{name: ", an inner container may not have tun by mknod", script: "docker run --rm busybox:test mknod /tmp/t c 10 200", status: 1, want: "mknod: /tmp/t: Operation not permitted"},
	{name: ", an inner container makes nodes of its own", script: file("docker-mknod.sh"), want: "character special file,1,3,644\n3\n1"},
	{name: ", an inner container's nodes are its own", script: file("docker-mknod-its-own.sh"), status: 1, want: "0"},
	{name: ", privileged, tun and fuse by mknod", script: file("docker-mknod-privileged.sh"), want: "both open"},
	{name: " builds that make nodes", script: file("docker-builds-mknod.sh"), want: "chrooted"},
	{name: ", a device handed on", script: file("docker-device.sh"), want: "opens"},
	{name: ", a user namespace of an ordinary user in an inner container", script: file("docker-userns.sh"), want: "0"},
}

// newestRows start the newest containerd, use it, and start the newest dockerd on it.
// ctr asks for CPU shares by itself, which cgroup v2 has not everywhere: a hybrid host keeps
// the controller for v1.
var newestRows = of("the newest containerd", newest, []row{
	{name: " starts", script: file("newest-containerd.sh"), want: "2"},
	{name: ", our client", script: "client $C /opt/busybox.tar", want: "overlay / overlay\nchanged\nexec 0, end 137"},
	{name: ", ctr", script: file("newest-ctr.sh"), want: "0\n0"},
	{name: ", dockerd on it", script: file("newest-dockerd.sh"), want: "]"},
})

// versionRows tell what runs, and fail if it is older than what the tests are for.
var versionRows = []row{{
	name: "versions", script: file("inner-versions.sh"), want: "new enough",
}}
