package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStorageOfDeepTree: what an earlier life of a root has left in the place of a storage
// folder may be nested deeper than paths can be. That is an error of a line, and no more.
func TestStorageOfDeepTree(t *testing.T) {
	bundle := busybox(t, nil, "true")
	dir := filepath.Join(bundle, "rootfs/var/lib/docker")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	defer os.Chdir(here)
	if err := deepFolders(dir, "d", deep); err != nil {
		t.Fatal(err)
	}
	if err := os.Chdir(here); err != nil {
		t.Fatal(err)
	}
	before := allocated()
	c, err := testPod(t, "pod").Create(t.Context(), CreateRequest{ID: "c1", Bundle: bundle})
	if err == nil {
		if err := c.Delete(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if !errors.Is(err, unix.ENAMETOOLONG) || len(err.Error()) > 3*unix.PathMax {
		t.Errorf("the error: %.300v", err)
	}
	if grown := allocated() - before; grown > 128<<20 {
		t.Errorf("%d MiB were taken", grown>>20)
	}
}

// TestStorageOfSparseFile: holes are copied as holes.
func TestStorageOfSparseFile(t *testing.T) {
	const size, at = 1 << 40, 1<<39 + 5
	bundle := busybox(t, nil, "true")
	name := filepath.Join(bundle, "rootfs/var/lib/docker/sparse")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(name)
	if err == nil {
		_, err = f.WriteAt([]byte("data"), at)
	}
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: bundle})
	f, err = os.Open(c.storage["/var/lib/docker"] + "/sparse")
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
