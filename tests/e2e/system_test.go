// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/images"
)

// TestSystemd is the main job: an unmodified Debian boots, and runs Docker.
func TestSystemd(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		task, exit := h.booted(t, images.Debian)
		for _, s := range []struct{ script, want string }{
			{"dpkg --compare-versions $(docker version --format '{{.Server.Version}}') ge 26 && echo new enough", "new enough"},
			{"docker load -q -i /opt/busybox.tar", "Loaded image: busybox:test"},
			{"docker run --rm busybox:test sh -c 'echo inner; ping -c1 -W5 172.17.0.1'", "1 packets received"},
			{"docker info --format '{{.Driver}} {{.CgroupVersion}}'", "overlay2 2"},
			{"docker run -d --name srv busybox:test sleep 100 && docker exec srv hostname && docker rm -f srv", "srv"},
			{"printf 'FROM busybox:test\\nRUN echo built >/file && mkdir /d && rmdir /d\\nCMD cat /file\\n' >/tmp/Dockerfile && docker build -q -t b /tmp >/dev/null && docker run --rm b", "built"},
			{"docker run --rm --privileged busybox:test mount -t tmpfs x /tmp && echo mounted", "mounted"},
			{"unshare -Urpf --mount-proc true && echo nested", "nested"},
			{"systemd-run --wait -q -p MemoryMax=64M -p PrivateTmp=yes -p ProtectSystem=strict -p ProtectKernelTunables=yes true && echo unit", "unit"},
		} {
			if out, status := h.exec(t, task, nil, "sh", "-c", s.script); status != 0 || !strings.Contains(out, s.want) {
				t.Errorf("%s: exit status %d, output %q, want %q", s.script, status, out, s.want)
			}
		}
		// SIGRTMIN+3 is how systemd is asked to halt; with it the container ends.
		if status := kill(t, task, exit, 37); status > 137 {
			t.Errorf("exit status %d", status)
		}
	})
}

// TestBindOwnership: the host's root is the container's in a bind, and what
// the container's root makes there belongs to the host's root.
func TestBindOwnership(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		out, status := h.run(t, "stat -c %u:%g /data/file && touch /data/new && chown 5:6 /data/new",
			oci.WithMounts([]specs.Mount{{Destination: "/data", Type: "bind", Source: dir, Options: []string{"rbind", "rw"}}}))
		if out != "0:0\n" || status != 0 {
			t.Errorf("exit status %d, output %q", status, out)
		}
		info, err := os.Stat(filepath.Join(dir, "new"))
		if err != nil {
			t.Fatal(err)
		}
		if uid, gid := owner(info); uid != 5 || gid != 6 {
			t.Errorf("the new file belongs to %d:%d on the host, want 5:6", uid, gid)
		}
	})
}

// TestRefused: what would break isolation is refused by a sentence that names
// the field and the way out, and nothing is left (the leak check).
func TestRefused(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		for _, c := range []struct {
			name string
			opt  oci.SpecOpts
			want []string
		}{
			{"host network", oci.WithHostNamespace(specs.NetworkNamespace), []string{"linux.namespaces", "network"}},
			{"host pid", oci.WithHostNamespace(specs.PIDNamespace), []string{"linux.namespaces", "pid"}},
			{"host ipc", oci.WithHostNamespace(specs.IPCNamespace), []string{"linux.namespaces", "ipc"}},
			{"bidirectional propagation", oci.WithMounts([]specs.Mount{{Destination: "/x", Type: "bind", Source: "/tmp", Options: []string{"rbind", "rshared"}}}), []string{"mounts", "shared", "rslave"}},
			{"privileged", oci.Compose(oci.WithPrivileged, oci.WithAllDevicesAllowed, oci.WithHostDevices), []string{"linux."}},
		} {
			t.Run(c.name, func(t *testing.T) {
				ctr := h.container(t, h.busybox, oci.WithProcessArgs("true"), c.opt)
				_, err := ctr.NewTask(background(t), cio.NullIO)
				if err == nil {
					t.Fatal("it was not refused")
				}
				for _, w := range c.want {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("%q does not name %q", err, w)
					}
				}
				t.Log(err)
			})
		}
	})
}
