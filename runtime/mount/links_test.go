// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
)

// TestLinks: the options of a bind that act on a symbolic link itself.
func TestLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "passwd"), []byte("mounted\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, source, destination, options string
		script, want                       string
	}{
		{"follows both", "link", "/etc/link", "rbind", "cat /etc/passwd; readlink /etc/link", "mounted\npasswd\n"},
		{"a link is copied", "link", "/srv/l", "copy-symlink", "readlink /srv/l; grep -c /srv /proc/self/mountinfo", "passwd\n0\n"},
		{"what is no link is mounted", "passwd", "/srv/l", "copy-symlink", "cat /srv/l; grep -c /srv /proc/self/mountinfo", "mounted\n1\n"},
		{"the same link is there", "link", "/etc/link", "copy-symlink", "readlink /etc/link", "passwd\n"},
		{"a link is mounted", "link", "/srv/l", "src-nofollow", "readlink /srv/l; grep -c /srv /proc/self/mountinfo", "passwd\n1\n"},
		{"a link is mounted on", "passwd", "/etc/link", "dest-nofollow", "cat /etc/link; head -1 /etc/passwd", "mounted\nroot:x:0:0:root:/root:/bin/sh\n"},
		{"a link is mounted on a link", "link", "/etc/other", "src-nofollow,dest-nofollow", "readlink /etc/other", "passwd\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
				s.Mounts = append(s.Mounts, specs.Mount{
					Destination: c.destination, Type: "bind", Source: filepath.Join(dir, c.source), Options: strings.Split(c.options, ","),
				})
			}, "sh", "-c", c.script)
			for name, target := range map[string]string{"link": "passwd", "other": "nowhere"} {
				if err := os.Symlink(target, filepath.Join(bundle, "rootfs/etc", name)); err != nil {
					t.Fatal(err)
				}
			}
			w, text := testcontainer.Pipe(t)
			ctr := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
			if err := ctr.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			testcontainer.Wait(t, ctr.Init())
			if got := text(); got != c.want {
				t.Errorf("%s: %q, want %q", c.script, got, c.want)
			}
		})
	}
	bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/passwd", Type: "bind", Source: filepath.Join(dir, "link"), Options: []string{"copy-symlink"}})
	}, "true")
	if _, err := testcontainer.NewPod(t).Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle}); err == nil || !strings.Contains(err.Error(), "copy-symlink") {
		t.Errorf("over a file of the image: %v", err)
	}
}
