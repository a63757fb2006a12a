// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// TestSelfExe (CVE-2019-5736): what /proc/self/exe is while a process enters
// the container is a sealed memfd of system calls, which does nothing for who
// executes it there and cannot be written.
func TestSelfExe(t *testing.T) {
	t.Parallel()
	script := func(root string) {
		os.WriteFile(filepath.Join(root, "bin/script"), []byte("#!/proc/self/exe\n"), 0o755)
	}
	for _, target := range []string{"/proc/self/exe", "/bin/script"} {
		t.Run("init "+target, func(t *testing.T) {
			bundle := testcontainer.Busybox(t, nil, target)
			script(filepath.Join(bundle, "rootfs"))
			c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle})
			if err := c.Start(t.Context()); err == nil {
				if got := testcontainer.Wait(t, c.Init()).Status; got == 0 {
					t.Error("it ran to its end")
				}
			}
		})
	}
	c := testcontainer.Started(t, nil, "sh", "-c", `printf '#!/proc/self/exe\n' >/bin/script; chmod 755 /bin/script
		while :; do for p in /proc/[0-9]*; do
			read c <$p/comm && [ $c = sysbox-init ] || continue
			echo $p >>/tried
			(echo evil >$p/exe) && echo $p >>/written
		done; done 2>/dev/null`)
	c.Pod.Config.Testing.Slow = slowly
	for i := range 6 {
		target := []string{"/proc/self/exe", "/bin/script"}[i%2]
		p, err := c.Exec(t.Context(), runtime.ExecRequest{Process: &specs.Process{Args: []string{target}, Cwd: "/"}})
		if err == nil {
			if got := testcontainer.Wait(t, p).Status; got == 0 {
				t.Errorf("exec of %s ran to its end", target)
			}
		}
	}
	if _, err := os.ReadFile(filepath.Join(c.Bundle, "rootfs/tried")); err != nil {
		t.Errorf("no process of the runtime's was seen from inside: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(c.Bundle, "rootfs/written")); err == nil {
		t.Errorf("executables were written through /proc: %s", b)
	}
}

// TestWorkingDirectoryLeak (CVE-2024-21626): no number of an open file as
// working directory leads out of the container.
func TestWorkingDirectoryLeak(t *testing.T) {
	t.Parallel()
	c := testcontainer.Started(t, nil)
	for n := range 40 {
		cwd := fmt.Sprintf("/proc/self/fd/%d", n)
		p, err := c.Exec(t.Context(), runtime.ExecRequest{Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: cwd}})
		if err == nil {
			testcontainer.Wait(t, p)
			t.Errorf("exec with the working directory %s was not refused", cwd)
		}
	}
}

// TestHostileImages: what an image puts in the place of folders and files that
// the runtime uses is not followed, and nothing of it hangs the runtime.
func TestHostileImages(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	for _, c := range []struct {
		name  string
		spoil func(root string) error
		want  string // of the error; "" if the container must run
	}{
		{"/dev is a link", link("dev", "/etc"), "/dev"},
		{"/proc is a link", link("proc", "/etc"), "/proc"},
		{"/sys is a link to the host's", link("sys", "/../../../../../sys"), "/sys"},
		{"passwd is a FIFO", func(root string) error {
			os.Remove(root + "/etc/passwd")
			return unix.Mkfifo(root+"/etc/passwd", 0o666)
		}, ""},
		{"passwd is /dev/zero", link("etc/passwd", "/dev/zero"), ""},
		{"passwd is a device", func(root string) error {
			os.Remove(root + "/etc/passwd")
			return unix.Mknod(root+"/etc/passwd", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5)))
		}, ""},
		{"passwd is huge", func(root string) error { return os.Truncate(root+"/etc/passwd", 10<<30) }, ""},
		{"/dev in the image has links of its own", func(root string) error {
			for _, n := range []string{"null", "console", "pts", "ptmx"} {
				if err := os.Symlink("/etc/passwd", root+"/dev/"+n); err != nil {
					return err
				}
			}
			return nil
		}, ""},
		{"/run is a link out of the root", link("run", "/../../../../../etc"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, err := os.ReadFile("/etc/passwd")
			if err != nil {
				t.Fatal(err)
			}
			bundle := testcontainer.Busybox(t, nil, "true")
			root := filepath.Join(bundle, "rootfs")
			if err := c.spoil(root); err != nil {
				t.Fatal(err)
			}
			ctr, err := testcontainer.NewPod(t).Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle})
			if err == nil {
				if err := ctr.Start(t.Context()); err != nil {
					t.Error(err)
				}
				testcontainer.Wait(t, ctr.Init())
				if err := ctr.Delete(t.Context()); err != nil {
					t.Error(err)
				}
			}
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want one about %s", err, c.want)
			}
			if after, _ := os.ReadFile("/etc/passwd"); string(after) != string(before) {
				t.Error("the host's /etc/passwd has changed")
			}
		})
	}
}

func link(name, target string) func(string) error {
	return func(root string) error {
		os.RemoveAll(filepath.Join(root, name))
		return os.Symlink(target, filepath.Join(root, name))
	}
}

// TestStoppedFromInside: the container's root stops every process it sees,
// those that are on their way in included. Execs fail or hang, and nothing
// else does.
func TestStoppedFromInside(t *testing.T) {
	t.Parallel()
	p := testcontainer.NewPod(t, func(c *config.Config) { c.Testing.StepDeadline = 2 * time.Second })
	c := p.Started(t, nil, "sh", "-c", `while :; do for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = $$ ] || kill -STOP $p; done; done 2>/dev/null`)
	var stopped atomic.Int64
	for range 20 { // until the attacker has had its turn
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				p, err := c.Exec(t.Context(), runtime.ExecRequest{Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"}})
				if err != nil {
					stopped.Add(1) // past its deadline
					return
				}
				stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
				if _, rest, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(rest, "T") {
					stopped.Add(1)
				}
				p.Signal(int(unix.SIGKILL))
				testcontainer.Wait(t, p)
			})
		}
		wg.Wait()
		if stopped.Load() > 0 {
			break
		}
	}
	if stopped.Load() == 0 {
		t.Error("no exec was stopped from inside")
	}
	if _, err := c.Pids(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestMountRace (CVE-2021-30465): two containers share a folder; one swaps a
// folder in it for a link to / while the other mounts there.
func TestMountRace(t *testing.T) {
	shared := t.TempDir()
	if err := os.Mkdir(filepath.Join(shared, "a"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/../../../../../../../../etc", filepath.Join(shared, "b")); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var swaps atomic.Int64
	var racer sync.WaitGroup
	racer.Go(func() {
		a, b := filepath.Join(shared, "a"), filepath.Join(shared, "b")
		for {
			select {
			case <-stop:
				return
			default:
				if unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) == nil {
					swaps.Add(1)
				}
			}
		}
	})
	defer racer.Wait()
	defer close(stop)
	before := testcontainer.Mounts(t)
	evil := t.TempDir()
	os.WriteFile(filepath.Join(evil, "passwd"), []byte("evil"), 0o644)
	made, raced := 0, 0
	for range pace.Rounds(t, 30, 6) {
		began := swaps.Load()
		bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
			s.Mounts = append(s.Mounts,
				specs.Mount{Destination: "/shared", Type: "bind", Source: shared, Options: []string{"rbind"}},
				specs.Mount{Destination: "/shared/a", Type: "bind", Source: evil, Options: []string{"rbind"}})
		}, "true")
		c, err := testcontainer.NewPod(t).Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle})
		if swaps.Load() > began { // on a busy machine the other may not have had a turn
			raced++
		}
		if err != nil {
			continue // a lost race may be refused
		}
		made++
		if err := c.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if made == 0 {
		t.Error("no container was made, so that nothing was mounted")
	}
	if raced == 0 {
		t.Error("nothing was swapped while a container was made")
	}
	if b, _ := os.ReadFile("/etc/passwd"); strings.HasPrefix(string(b), "evil") {
		t.Error("the mount went to the host's /etc")
	}
	if after := testcontainer.Mounts(t); after != before {
		t.Errorf("the host's mounts have changed:\n%s\nwere:\n%s", after, before)
	}
}

// TestShimScore: a container's oom_score_adj is its own, although its first
// leg begins as a child in the shim's memory.
func TestShimScore(t *testing.T) {
	score := func() string {
		b, err := os.ReadFile("/proc/self/oom_score_adj")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := score()
	c := testcontainer.Started(t, func(s *specs.Spec) { n := 700; s.Process.OOMScoreAdj = &n })
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", c.Init().Pid()))
	if err != nil || string(b) != "700\n" {
		t.Errorf("init's oom_score_adj %q, %v", b, err)
	}
	if after := score(); after != before {
		t.Errorf("the shim's oom_score_adj is %q, was %q", after, before)
	}
}

// TestInside: while a hundred processes enter, the container's root tries to
// open the memory, the files and the executable of each process it sees that
// is not its own kind, by the container's own /proc.
func TestInside(t *testing.T) {
	t.Parallel()
	bundle := testcontainer.Busybox(t, nil, "sh", "-c", `while :; do for p in /proc/[0-9]*; do
		e=$(readlink $p/exe 2>/dev/null); case "$e" in ""|/bin/busybox) continue;; esac
		echo "$p exe $e" >>/seen
	done; for f in /proc/[0-9]*/fd/*; do
		l=$(readlink $f 2>/dev/null); case "$l" in ""|/dev/null|pipe:*|/seen|/proc/*) continue;; esac
		echo "$f $l" >>/seen
	done; done`)
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		p, err := c.Exec(t.Context(), runtime.ExecRequest{Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"}})
		if err != nil {
			t.Fatal(err)
		}
		testcontainer.Wait(t, p)
	}
	if b, err := os.ReadFile(filepath.Join(bundle, "rootfs/seen")); err == nil {
		t.Errorf("seen from inside:\n%s", b)
	}
}

// TestVolumeOverRoot: an image has a link to / where a volume belongs. Mounted there, the
// volume would be the root of each exec, without /proc and what guards it.
func TestVolumeOverRoot(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	for _, target := range []string{"/", "..", "/proc/../etc/.."} {
		bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/volume", Type: "bind", Source: volume, Options: []string{"rbind"}})
		}, "true")
		if err := os.Symlink(target, bundle+"/rootfs/volume"); err != nil {
			t.Fatal(err)
		}
		p := testcontainer.NewPod(t)
		c, err := p.Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle})
		if err == nil {
			if err := c.Delete(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err == nil || !strings.Contains(err.Error(), "its place is the container's root") {
			t.Errorf("a link to %s: error %v", target, err)
		}
		nothingLeft(t, p, bundle)
	}
}

// TestPointsInStrangersFolders: mount points are made with the host's powers. By a link of
// the image's none is made in a volume's folder in which the container itself could not
// write; where the spec's own words lead there, it is.
func TestPointsInStrangersFolders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, file, folder, made string }{
		{"by a link", "/etc/file", "/volume/plain", ""},
		{"by a link to a folder", "/etc/folder/file", "/volume/plain", ""},
		{"by name", "/volume/file", "/volume/more/plain", "file more"},
	} {
		t.Run(c.name, func(t *testing.T) {
			volume, source := t.TempDir(), t.TempDir()+"/source"
			if err := os.WriteFile(source, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
				s.Annotations = map[string]string{"io.sysbox.skip-uid-shift": "/volume"}
				for _, m := range [][2]string{{"/volume", volume}, {c.file, source}, {c.folder, t.TempDir()}} {
					s.Mounts = append(s.Mounts, specs.Mount{Destination: m[0], Type: "bind", Source: m[1], Options: []string{"rbind"}})
				}
			}, "true")
			etc := bundle + "/rootfs/etc"
			if err := os.RemoveAll(etc); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/volume", etc); err != nil {
				t.Fatal(err)
			}
			ctr, err := testcontainer.NewPod(t).Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle})
			if err == nil {
				if err := ctr.Delete(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if (err != nil) != (c.made == "") {
				t.Errorf("error %v", err)
			}
			entries, err := os.ReadDir(volume)
			if err != nil {
				t.Fatal(err)
			}
			var made []string
			for _, e := range entries {
				made = append(made, e.Name())
			}
			if got := strings.Join(made, " "); got != c.made {
				t.Errorf("made in the volume: %q, want %q", got, c.made)
			}
		})
	}
}
