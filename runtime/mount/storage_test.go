// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
	"sysbox/tests/testcontainer"
)

// has is a script that shows what is in Docker's folder, and of what kind it is.
const has = "cd /var/lib/docker && for f in $(ls -A); do stat -c '%n %u:%g %a' $f; done; " +
	"grep ' /var/lib/docker ' /proc/self/mountinfo | grep -c overlay"

// TestStorageStays: what is in a storage folder is there in the next task on the
// snapshot, under other ids, with whiteouts that are an inner overlay's.
func TestStorageStays(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	first := s.Life(t, nil, "cd /var/lib/docker && echo kept >f && mkdir -p d && chown 1000:1001 f d && chmod 4750 f && mknod -m 0 w c 0 0 && "+has)
	want := "d 1000:1001 755\nf 1000:1001 4750\nw 0:0 0\n0\n"
	if first != want {
		t.Errorf("at first: %q, want %q", first, want)
	}
	if second := s.Life(t, func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "A=b") }, has); second != want {
		t.Errorf("in the next task: %q, want %q", second, want)
	}
	var st unix.Stat_t
	if err := unix.Stat(s.Upper+testcontainer.Docker+"/f", &st); err != nil || st.Uid != 1000 || st.Gid != 1001 {
		t.Errorf("on the disk it belongs to %d:%d, %v", st.Uid, st.Gid, err)
	}
}

// TestStorageOfImage: what the image has in the place is in the storage folder.
func TestStorageOfImage(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	if err := os.MkdirAll(s.Lower+testcontainer.Docker+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Lower+testcontainer.Docker+"/d/f", []byte("of the image"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chown(s.Lower+testcontainer.Docker, 7, 8); err != nil {
		t.Fatal(err)
	}
	const script = "stat -c '%u:%g %a' /var/lib/docker; cat /var/lib/docker/d/f; " + has
	want := "7:8 755\nof the imaged 0:0 755\n0\n"
	if out := s.Life(t, nil, script+"; echo more >>/var/lib/docker/d/f"); out != want {
		t.Errorf("at first: %q, want %q", out, want)
	}
	want = "7:8 755\nof the imagemore\nd 0:0 755\n0\n"
	if out := s.Life(t, nil, script); out != want {
		t.Errorf("in the next task: %q, want %q", out, want)
	}
	if b, _ := os.ReadFile(s.Lower + testcontainer.Docker + "/d/f"); string(b) != "of the image" {
		t.Errorf("the image has %q now", b)
	}
	if left, _ := os.ReadDir(s.Work); len(left) != 1 {
		t.Errorf("left in the work folder: %v", left)
	}
}

// TestStorageOfHalfCopy: a crash in the middle of the image's copy leaves a folder
// that no task takes for the whole.
func TestStorageOfHalfCopy(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	half := s.Work + "/sysbox"
	for _, d := range []string{s.Lower + testcontainer.Docker, half + "/half"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(s.Lower+testcontainer.Docker+"/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, want := s.Life(t, nil, has), "f 0:0 644\n0\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
	if sys.Exists(half) {
		t.Error("the half is there still")
	}
}

// TestStorageHostileLayer: what an earlier life of the container has left in the
// place of a storage folder, or on the way to it, leads to no file of the host's.
func TestStorageHostileLayer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	outside, err := os.MkdirTemp("/", "sysbox-test-") // not below /var, which is moved
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(outside)
	for name, hostile := range map[string]struct {
		script, out string // of the life before; "" for no more than that the next one ends
	}{
		"a link to the host's folder":           {"rm -rf /var/lib/docker; umount /var/lib/docker; ln -s " + outside + " /var/lib/x; ls /var/lib/x", "0\n"},
		"a parent that was moved":               {"mv /var/lib /var/lib2 && mkdir -p /var/lib/docker && echo new >/var/lib/docker/f", "f 0:0 644\n0\n"},
		"a parent that is a link inside":        {"mv /var /var2 && ln -s /var2 /var && echo new >/var/lib/docker/f", "f 0:0 644\n0\n"},
		"a parent that is a link to the host's": {"mkdir -p " + outside + "; mv /var/* " + outside + "; mv /var /var2; ln -s ../../.." + outside + " /var; touch /var/lib/docker/f", "f 0:0 644\n0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := testcontainer.NewSnapshot(t)
			s.Life(t, nil, hostile.script)
			if out := s.Life(t, nil, has); out != hostile.out {
				t.Errorf("%q, want %q", out, hostile.out)
			}
			if left, _ := os.ReadDir(outside); len(left) > 0 {
				t.Errorf("on the host: %v", left)
			}
		})
	}
}

// TestStorageFileInThePlace: a file where a storage folder belongs fails the Create,
// as a file in the place of any mount does.
func TestStorageFileInThePlace(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	if err := os.MkdirAll(filepath.Dir(s.Lower+testcontainer.Docker), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Lower+testcontainer.Docker, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := testcontainer.NewPod(t).Create(t.Context(), s.Task(t, nil, "true"))
	if err == nil || !strings.Contains(err.Error(), "storage for /var/lib/docker") {
		t.Errorf("error %v", err)
	}
}

// TestStorageOfOneContainer: two containers do not share an upper layer.
func TestStorageOfOneContainer(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	c, _ := s.Start(t, nil, "sleep 100")
	_, err := testcontainer.NewPod(t).Create(t.Context(), s.Task(t, nil, "true"))
	if err == nil || !strings.Contains(err.Error(), "give each a snapshot of its own") {
		t.Errorf("error %v", err)
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	s.Life(t, nil, "true")
}

// TestStorageOfVolume: a volume of the user's at the place of a storage folder is
// what the container sees.
func TestStorageOfVolume(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/v", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	out := s.Life(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: testcontainer.Docker, Type: "bind", Source: dir, Options: []string{"rbind"}})
	}, has)
	if want := "v 0:0 644\n0\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
}

// TestStorageOfPlainRoot: a root that is a folder of ext4 needs no storage, and has
// one that can be written if it is read-only itself.
func TestStorageOfPlainRoot(t *testing.T) {
	for _, readonly := range []bool{false, true} {
		bundle := testcontainer.Busybox(t, func(s *specs.Spec) { s.Root.Readonly = readonly }, "sh", "-c", "mkdir -p /var/lib/docker/d && "+has)
		if err := os.MkdirAll(bundle+"/rootfs"+testcontainer.Docker, 0o755); err != nil {
			t.Fatal(err)
		}
		w, out := testcontainer.Pipe(t)
		c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		testcontainer.Wait(t, c.Init())
		if got, want := out(), "d 0:0 755\n0\n"; got != want {
			t.Errorf("read-only %v: %q, want %q", readonly, got, want)
		}
		if sys.Exists(bundle+"/rootfs/var/lib/k0s") != readonly || sys.Exists(c.Pod.Config.DataDir+"/storage") {
			t.Errorf("read-only %v: made what is not needed", readonly)
		}
	}
}

// TestStorageOnTheHost: without an upper layer a folder that the image has gets
// storage of the host's, which ends with the task. That of a container that a power
// cut has ended is in nobody's way.
func TestStorageOnTheHost(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	for _, d := range []string{testcontainer.Docker + "/of-image", "/run"} {
		if err := os.MkdirAll(s.Lower+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w, out := testcontainer.Pipe(t)
	p := testcontainer.NewPod(t)
	dir := filepath.Join(p.Config.DataDir, "storage/test/c1")
	if err := os.MkdirAll(dir+"/var-lib-docker/left", 0o700); err != nil {
		t.Fatal(err)
	}
	r := s.View(t, "mkdir /var/lib/docker/d && "+has)
	r.Stdio = runtime.Stdio{Stdout: w, Stderr: w}
	c := testcontainer.Create(t, p, r)
	if !strings.Contains(p.Said(), "no storage for /var/lib/k0s: ") {
		t.Errorf("logged %q", p.Said())
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	testcontainer.Wait(t, c.Init())
	if err := c.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := out(), "d 0:0 755\nof-image 0:0 755\n0\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if sys.Exists(dir) {
		t.Error("the storage is there still")
	}
}

// TestStorageOfDeepTree: what an image has in the place of a storage
// folder may be nested deeper than paths can be. That is an error of a line, and no more.
func TestStorageOfDeepTree(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	if err := os.MkdirAll(s.Lower+testcontainer.Docker, 0o755); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	defer os.Chdir(here)
	if err := testcontainer.Deep(s.Lower+testcontainer.Docker, "d", deep); err != nil {
		t.Fatal(err)
	}
	if err := os.Chdir(here); err != nil {
		t.Fatal(err)
	}
	before := testcontainer.Allocated()
	c, err := testcontainer.NewPod(t).Create(t.Context(), s.Task(t, nil, "true"))
	if err == nil {
		if err := c.Delete(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if !errors.Is(err, unix.ENAMETOOLONG) || len(err.Error()) > 3*unix.PathMax {
		t.Errorf("the error: %.300v", err)
	}
	if grown := testcontainer.Allocated() - before; grown > 128<<20 {
		t.Errorf("%d MiB were taken", grown>>20)
	}
	if left, _ := os.ReadDir(s.Work); len(left) > 1 {
		t.Errorf("left in the work folder: %v", left)
	}
}

// TestStorageOfSparseFile: holes are copied as holes.
func TestStorageOfSparseFile(t *testing.T) {
	const size, at = 1 << 40, 1<<39 + 5
	s := testcontainer.NewSnapshot(t)
	name := testcontainer.Docker + "/sparse"
	if err := os.MkdirAll(s.Lower+testcontainer.Docker, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(s.Lower + name)
	if err == nil {
		_, err = f.WriteAt([]byte("data"), at)
	}
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Life(t, nil, "true")
	f, err = os.Open(s.Upper + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != size || st.Blocks > 1<<11 {
		t.Errorf("%d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
	b := make([]byte, 6)
	if _, err := f.ReadAt(b, at-1); err != nil || string(b) != "\x00data\x00" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestStorageCommitted: between two tasks the upper layer has nothing that only an
// inner overlay understands, so that any way of making an image of it works; an image
// made of the plain files gives the whiteouts and opaque folders back.
func TestStorageCommitted(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	const script = "cd /var/lib/docker && ls -A d; stat -c '%n %t %F' d/w w"
	const want = "f\nw\nd/w 0 character special file\nw 0 character special file\n"
	if out := s.Life(t, nil, "cd /var/lib/docker && mkdir d && mknod w c 0 0 && mknod d/w c 0 0 && echo f >d/f; "+script); out != want {
		t.Fatalf("at first: %q", out)
	}
	in := s.Upper + testcontainer.Docker
	setOpaque := func() {
		if err := unix.Setxattr(in+"/d", "user.overlay.opaque", []byte("y"), 0); err != nil {
			t.Fatal(err)
		}
	}
	setOpaque()
	s.Life(t, nil, script)
	// What an archive would have: files, and no attributes.
	c := testcontainer.NewSnapshot(t)
	err := filepath.WalkDir(in, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := c.Lower + testcontainer.Docker + strings.TrimPrefix(p, in)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			return os.WriteFile(to, b, 0o600)
		}
		t.Errorf("%s is a %v", p, d.Type())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*testcontainer.Snapshot{"the next task": s, "a container of the image": c} {
		if out := s.Life(t, nil, script+"; ls -A /var/lib/docker"); out != want+"d\nw\n" {
			t.Errorf("%s: %q, want %q", name, out, want)
		}
		var b [1]byte
		if n, err := unix.Getxattr(s.Upper+testcontainer.Docker+"/d", "user.overlay.opaque", b[:]); n != 1 || b[0] != 'y' {
			t.Errorf("%s: the opaque folder is %q, %v", name, b[:max(n, 0)], err)
		}
	}
}

// TestStorageOfDataRoot: the data-root that the image's Docker is configured with has
// storage; a configuration that is made to harm its reader has no effect but a warning.
func TestStorageOfDataRoot(t *testing.T) {
	const root = "/data/docker"
	for name, c := range map[string]struct {
		make   func(p string) error
		log    string
		layers int // of overlays below the data-root
	}{
		"as it should be": {func(p string) error { return os.WriteFile(p, []byte(`{"data-root": "`+root+`"}`), 0o644) }, "", 0},
		"a link":          {func(p string) error { return os.Symlink("/etc/docker/other", p) }, "", 0},
		"a link out":      {func(p string) error { return os.Symlink("../../../../proc/self/environ", p) }, "", 1},
		"a FIFO":          {func(p string) error { return unix.Mkfifo(p, 0o644) }, "not a regular file", 1},
		"/dev/zero":       {func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) }, "not a regular file", 1},
		"huge and sparse": {func(p string) error {
			return errors.Join(os.WriteFile(p, []byte(`{"data-root": "`+root+`"`), 0o644), os.Truncate(p, 10<<30))
		}, "more than 65536 bytes", 1},
		"of the system": {func(p string) error { return os.WriteFile(p, []byte(`{"data-root": "/etc"}`), 0o644) }, "is a system directory", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := testcontainer.NewSnapshot(t)
			if err := os.Mkdir(s.Lower+"/etc/docker", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(s.Lower+"/etc/docker/other", []byte(`{"data-root": "`+root+`"}`), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := c.make(s.Lower + plan.DockerConfig); err != nil {
				t.Fatal(err)
			}
			out := s.Life(t, nil, "mkdir -p "+root+"; stat -f -c %t "+root)
			if overlay := out == "794c7630\n"; overlay != (c.layers > 0) {
				t.Errorf("the data-root's file system: %q", out)
			}
			said := s.Said()
			if strings.Contains(said, "binfmt_misc left out") { // an older kernel's, which is another matter
				said = said[strings.Index(said, "\n")+1:]
			}
			if !strings.Contains(said, c.log) || c.log == "" && said != "" {
				t.Errorf("logged %q, want %q", said, c.log)
			}
		})
	}
}

// TestStorageByLinks: places that are the same folder by an image's links, or one in the
// other, have storage once.
func TestStorageByLinks(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	if err := errors.Join(
		os.MkdirAll(s.Lower+testcontainer.Docker, 0o755),
		os.WriteFile(s.Lower+testcontainer.Docker+"/f", nil, 0o644),
		os.Symlink("docker", s.Lower+"/var/lib/containerd"),
		os.Symlink("../..", s.Lower+testcontainer.Docker+"/up"),
		os.Symlink("docker/up/lib", s.Lower+"/var/lib/k0s"),
	); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if out, want := s.Life(t, nil, has), "f 0:0 644\nup 0:0 777\n0\n"; out != want {
			t.Errorf("%q, want %q", out, want)
		}
	}
	for _, want := range []string{"no storage for /var/lib/containerd", "no storage for /var/lib/k0s"} {
		if strings.Count(s.Said(), want) != 2 {
			t.Errorf("logged %q, want %q", s.Said(), want)
		}
	}
}

// TestStorageOfMarks: attributes that an image's layer has so that its overlay shows them as
// an overlay's own marks (from Linux 6.7 on) are no marks in the upper layer, into which
// what the image has is copied.
func TestStorageOfMarks(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	for _, d := range []string{testcontainer.Docker + "/d", "/etc/secret"} {
		if err := os.MkdirAll(s.Lower+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(s.Lower+testcontainer.Docker+"/d", "trusted.overlay.overlay.redirect", []byte("/etc/secret"), 0); err != nil {
		t.Fatal(err)
	}
	s.Life(t, nil, "true")
	if n, err := unix.Getxattr(s.Upper+testcontainer.Docker+"/d", "trusted.overlay.redirect", make([]byte, 64)); err != unix.ENODATA {
		t.Errorf("the copy has a redirect of %d bytes, %v", n, err)
	}
}

// TestStorageByLinkToSystem: an image's links make no storage of folders that are more than
// an engine's: neither is the whole image copied to the host, nor stays writable what a
// read-only root has. Execs see the root that init sees.
func TestStorageByLinkToSystem(t *testing.T) {
	for _, target := range []string{"/", "../../../..", "/etc", "/proc"} {
		t.Run("overlay "+target, func(t *testing.T) {
			s := testcontainer.NewSnapshot(t)
			if err := errors.Join(os.MkdirAll(s.Lower+"/var/lib", 0o755), os.Symlink(target, s.Lower+testcontainer.Docker)); err != nil {
				t.Fatal(err)
			}
			c, _ := s.Start(t, nil, "sleep 100")
			if out := c.Script(t, "stat -f -c %t / /etc; [ -d /proc/1 ] && echo proc"); out != "794c7630\n794c7630\nproc\n" {
				t.Errorf("the file systems seen by an exec: %q", out)
			}
			if sys.Exists(c.Pod.Config.DataDir + "/storage") {
				t.Error("the host has storage of it")
			}
			if !strings.Contains(c.Pod.Said(), "no storage for /var/lib/docker: by a link") {
				t.Errorf("logged %q", c.Pod.Said())
			}
		})
		t.Run("read-only "+target, func(t *testing.T) {
			bundle := testcontainer.Busybox(t, func(s *specs.Spec) { s.Root.Readonly = true }, "sleep", "100")
			root := bundle + "/rootfs"
			if err := errors.Join(os.MkdirAll(root+"/var/lib", 0o755), os.Symlink(target, root+testcontainer.Docker)); err != nil {
				t.Fatal(err)
			}
			c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle})
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.Script(t, "touch /evil /etc/evil")
			if sys.Exists(root+"/evil") || sys.Exists(root+"/etc/evil") {
				t.Error("the read-only root was written to")
			}
		})
	}
}
