// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

// shimName is the file that callers execute.
const shimName = "containerd-shim-sysbox-v1"

// replaceable is a containerd whose shim can be replaced, as a package's upgrade does it.
type replaceable struct {
	host
	dir string
}

// install puts the shim of a directory in the place of the one that there is.
func (h *replaceable) install(t *testing.T, from string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(from, shimName))
	if err == nil {
		err = os.WriteFile(filepath.Join(h.dir, shimName+".new"), b, 0o755)
	}
	if err == nil {
		err = os.Rename(filepath.Join(h.dir, shimName+".new"), filepath.Join(h.dir, shimName))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// command runs the shim that is installed, as an administrator does.
func (h *replaceable) command(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(background(t), filepath.Join(h.dir, shimName), args...)
	cmd.Env = append(os.Environ(), "SYSBOX_CONFIG_FILE="+filepath.Join(h.Dir, "sysbox.toml"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func startReplaceable(t *testing.T, shim string) *replaceable {
	t.Helper()
	archive, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	h := &replaceable{dir: t.TempDir()}
	h.install(t, shim)
	c, err := harness.StartShim(context.Background(), peers.Newest, h.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	h.Containerd = c
	if h.busybox, err = c.Load(context.Background(), archive); err != nil {
		t.Fatal(err)
	}
	h.watch(t)
	return h
}

// shims are the directories of the shim's version before this one, and of this one. Where
// they cannot be used the test is skipped.
func shims(t *testing.T) (last, this string) {
	t.Helper()
	if why := skipped(); why != "" {
		t.Skip(why)
	}
	last, err := peers.OldShim(peers.LastShim)
	if errors.Is(err, peers.ErrNoHistory) {
		t.Skip("needs the repository's history, with the version before")
	}
	if err != nil {
		t.Fatal(err)
	}
	if this, err = peers.Shim(); err != nil {
		t.Fatal(err)
	}
	return last, this
}

// TestLastVersion: what one version of the shim has on disk and running, the other lists,
// deletes and reclaims, after an upgrade as after a downgrade; and ids that the one has
// given out the other does not give out again.
func TestLastVersion(t *testing.T) {
	last, this := shims(t)
	for _, x := range []struct{ name, before, after string }{{"upgrade", last, this}, {"downgrade", this, last}} {
		t.Run(x.name, func(t *testing.T) {
			h := startReplaceable(t, x.before)
			served, _ := h.sleeper(t)
			crashed, _ := h.sleeper(t)
			forgotten, _ := h.sleeper(t)
			h.install(t, x.after)

			// The shim that runs serves its container to the end.
			if out, status := h.exec(t, served, nil, "echo", "still here"); out != "still here\n" || status != 0 {
				t.Errorf("exec: %q, %d", out, status)
			}
			// Another shim beside it takes no ids that are in use.
			fresh, _ := h.sleeper(t)
			seen := map[string]bool{}
			for _, task := range []containerd.Task{served, crashed, forgotten, fresh} {
				ids := uidMap(t, task.Pid())
				if seen[ids] {
					t.Errorf("the ids %q are given out twice", ids)
				}
				seen[ids] = true
			}
			// reclaim leaves what lives.
			h.command(t, "reclaim")
			for name, task := range map[string]containerd.Task{"served": served, "crashed": crashed, "forgotten": forgotten, "fresh": fresh} {
				if out, status := h.exec(t, task, nil, "echo", "lives"); out != "lives\n" || status != 0 {
					t.Errorf("%s, after reclaim: %q, %d", name, out, status)
				}
			}
			// The delete command of the one cleans up after the other's death.
			killShimOf(t, crashed)
			gone(t, crashed.Pid())
			h.forgets(t, crashed)
			// And so does reclaim, where nobody has called that.
			h.Kill()
			killShimOf(t, forgotten)
			h.command(t, "reclaim")
			gone(t, forgotten.Pid())
			h.forgets(t, forgotten)
			if err := h.Resume(background(t)); err != nil {
				t.Fatal(err)
			}
			for _, task := range []containerd.Task{served, fresh} {
				again, exit := h.found(t, task.ID())
				if status := kill(t, again, exit, syscall.SIGKILL); status != 137 {
					t.Errorf("exit status %d", status)
				}
			}
		})
	}
}

// killShimOf ends the shim of one container: the parent of its init.
func killShimOf(t *testing.T, task containerd.Task) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", task.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\nPPid:\t")
	parent, err := strconv.Atoi(rest[:strings.IndexByte(rest, '\n')])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(parent, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, uint32(parent)) // until then reclaim takes it for a living one
}

// forgets waits until nothing in the shim's state has a container's name.
func (h *replaceable) forgets(t *testing.T, task containerd.Task) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(30 * time.Second * patience()); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		left = nil
		_ = filepath.WalkDir(h.StateDir(), func(path string, _ os.DirEntry, _ error) error {
			if strings.Contains(path, task.ID()) {
				left = append(left, path)
			}
			return nil
		})
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("of container %s there is still %q", task.ID(), left)
}

func uidMap(t *testing.T, pid uint32) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(b)), " ")
}
