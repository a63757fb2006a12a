// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/runtime/state"
	"sysbox/runtime/sys"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// TestChownedContainer: where ids cannot be shifted, the root's files are the container's
// while it lives, and their owners' again after its delete, or after kill -9 of its shim
// and the delete command; storage is there in the next task.
func TestChownedContainer(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	if err := os.WriteFile(s.Lower+"/etc/of-image", nil, 0o4711); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chown(s.Lower+"/etc/of-image", 1000, 1000); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(s.Lower+"/etc/of-image", 0o4711); err != nil {
		t.Fatal(err)
	}
	chowns := func(c *config.Config) { c.Testing.Chown = true }
	owner := func(name string) uint32 {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(s.Upper+name, &st); err != nil {
			t.Error(err)
		}
		return st.Uid
	}
	const script = "stat -c '%u %a' /etc/of-image; cat /var/lib/docker/f; cd /var/lib/docker; stat -c '%u %F' w; echo kept >f; chown 1000 f; mknod w c 0 0; touch /etc/new"
	const first = "1000 4711\n"
	const want = first + "kept\n0 character special file\n"
	lives := []struct {
		end func(*testcontainer.Container)
	}{
		{func(c *testcontainer.Container) {
			if err := c.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
		{func(c *testcontainer.Container) { // kill -9 of the shim
			dies(t, c)
			for range 2 {
				if _, err := runtime.Cleanup(t.Context(), slog.Default(), state.Dirs{State: c.Pod.Config.StateDir, Data: "/configured/since"}, "test", "c1"); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{func(c *testcontainer.Container) {
			if err := c.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for i, life := range lives {
		os.Remove(s.Upper + "/etc/done")
		c, out := s.Start(t, nil, "("+script+") 2>/dev/null; touch /etc/done; sleep 1000", chowns)
		for deadline := time.Now().Add(20 * time.Second * pace.Patience()); !sys.Exists(s.Upper+"/etc/done") && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		root := c.RootUID
		if a, b, n := owner("/etc/of-image"), owner(testcontainer.Docker+"/f"), owner("/etc/new"); a != root+1000 || b != root+1000 || n != root {
			t.Errorf("life %d: on the disk the owners are %d, %d, %d, and the range begins at %d", i, a, b, n, root)
		}
		journals := filepath.Join(c.Pod.Config.DataDir, "chown")
		if left, _ := os.ReadDir(journals); len(left) == 0 {
			t.Errorf("life %d: no journal", i)
		}
		life.end(c)
		if said := out(); i == 0 && said != first || i > 0 && said != want {
			t.Errorf("life %d: %q", i, said)
		}
		if a, b, n := owner("/etc/of-image"), owner(testcontainer.Docker+"/f"), owner("/etc/new"); a != 1000 || b != 1000 || n != 0 {
			t.Errorf("life %d: after the delete the owners are %d, %d, %d", i, a, b, n)
		}
		if _, err := runtime.Reclaim(t.Context(), slog.Default()); err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(journals); len(left) > 0 {
			t.Errorf("life %d: journals are left: %v", i, left)
		}
	}
	if n := strings.Count(s.Said(), "so that its files are chowned now"); n != len(lives) {
		t.Errorf("%d warnings, want %d: %s", n, len(lives), s.Said())
	}
}
