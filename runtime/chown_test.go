package runtime

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/config"
	"sysbox/runtime/state"
	"sysbox/runtime/sys"
	"sysbox/tests/pace"
)

// TestChownedContainer: where ids cannot be shifted, the root's files are the container's
// while it lives, and their owners' again after its delete, or after kill -9 of its shim
// and the delete command; storage is there in the next task.
func TestChownedContainer(t *testing.T) {
	s := newSnapshot(t)
	if err := os.WriteFile(s.lower+"/etc/of-image", nil, 0o4711); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chown(s.lower+"/etc/of-image", 1000, 1000); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(s.lower+"/etc/of-image", 0o4711); err != nil {
		t.Fatal(err)
	}
	with(t, func(s *config.Testing) { s.Chown = true })
	owner := func(name string) uint32 {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(s.upper+name, &st); err != nil {
			t.Error(err)
		}
		return st.Uid
	}
	const script = "stat -c '%u %a' /etc/of-image; cat /var/lib/docker/f; cd /var/lib/docker; stat -c '%u %F' w; echo kept >f; chown 1000 f; mknod w c 0 0; touch /etc/new"
	const first = "1000 4711\n"
	const want = first + "kept\n0 character special file\n"
	log := logged(t)
	lives := []struct{ end func(*Container) }{
		{func(c *Container) {
			if err := c.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
		{func(c *Container) { // kill -9 of the shim
			dies(t, c)
			for range 2 {
				if _, err := Cleanup(t.Context(), slog.Default(), state.Dirs{State: c.cfg.StateDir, Data: "/configured/since"}, "test", "c1"); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{func(c *Container) {
			if err := c.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for i, life := range lives {
		os.Remove(s.upper + "/etc/done")
		c, out := s.start(t, nil, "("+script+") 2>/dev/null; touch /etc/done; sleep 1000")
		for deadline := time.Now().Add(20 * time.Second * pace.Patience()); !sys.Exists(s.upper+"/etc/done") && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		root := c.root().UID
		if a, b, n := owner("/etc/of-image"), owner(docker+"/f"), owner("/etc/new"); a != root+1000 || b != root+1000 || n != root {
			t.Errorf("life %d: on the disk the owners are %d, %d, %d, and the range begins at %d", i, a, b, n, root)
		}
		journals := filepath.Join(c.cfg.DataDir, "chown")
		if left, _ := os.ReadDir(journals); len(left) == 0 {
			t.Errorf("life %d: no journal", i)
		}
		life.end(c)
		if said := out(); i == 0 && said != first || i > 0 && said != want {
			t.Errorf("life %d: %q", i, said)
		}
		if a, b, n := owner("/etc/of-image"), owner(docker+"/f"), owner("/etc/new"); a != 1000 || b != 1000 || n != 0 {
			t.Errorf("life %d: after the delete the owners are %d, %d, %d", i, a, b, n)
		}
		if _, err := Reclaim(t.Context(), slog.Default()); err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(journals); len(left) > 0 {
			t.Errorf("life %d: journals are left: %v", i, left)
		}
	}
	if n := strings.Count(log(), "so that its files are chowned now"); n != len(lives) {
		t.Errorf("%d warnings, want %d: %s", n, len(lives), log())
	}
}
