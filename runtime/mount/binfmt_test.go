// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sysbox/runtime/host"
	"sysbox/runtime/sys"
	"sysbox/tests/testcontainer"
)

// TestBinfmtOfTheHost: what a container registers, disables and removes in its table of
// formats is not in the host's, also while the container runs.
func TestBinfmtOfTheHost(t *testing.T) {
	if !host.Facts().BinfmtMiscNS {
		t.Skip("this kernel has no table of formats for a user namespace (Linux 6.7)")
	}
	formats := hostFormats(t)
	before := formats()
	c := testcontainer.Started(t, nil)
	const register = "cd /proc/sys/fs/binfmt_misc && echo ':sysbox-test:M::SYSBOXTEST::/bin/echo:' >register && printf SYSBOXTEST >/root/x && busybox chmod 755 /root/x && /root/x && ls"
	if out := c.Script(t, register); out != "/root/x\nregister\nstatus\nsysbox-test\n" {
		t.Fatalf("registered inside: %q", out)
	}
	if now := formats(); !maps.Equal(before, now) {
		t.Errorf("the host's formats were %q and are %q", before, now)
	}
	const change = "mount -t binfmt_misc b /tmp && echo 0 >/tmp/status && cat /proc/sys/fs/binfmt_misc/status && echo -1 >/tmp/status && ls /proc/sys/fs/binfmt_misc"
	if out := c.Script(t, change); out != "disabled\nregister\nstatus\n" {
		t.Fatalf("changed inside: %q", out)
	}
	if now := formats(); !maps.Equal(before, now) {
		t.Errorf("the host's formats were %q and are %q", before, now)
	}
}

// hostFormats returns what lists the host's table. That need not be mounted anywhere: this
// has a mount of it for as long as the test runs, as with the last one all formats go.
func hostFormats(t *testing.T) func() map[string]string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounts, which takes root")
	}
	table, err := func() (*os.File, error) {
		fs, err := sys.Fsopen("binfmt_misc")
		if err != nil {
			return nil, err
		}
		defer fs.Close()
		if err := fs.Create(); err != nil {
			return nil, err
		}
		return fs.Mount(0)
	}()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	return func() map[string]string {
		t.Helper()
		dir := fmt.Sprintf("/proc/self/fd/%d", table.Fd())
		list, err := os.ReadDir(dir + "/")
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, f := range list {
			if f.Name() == "register" {
				continue // cannot be read
			}
			b, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			out[f.Name()] = strings.TrimSpace(string(b))
		}
		if out["status"] == "" {
			t.Fatalf("the host's table of formats has no status: %q", out)
		}
		return out
	}
}
