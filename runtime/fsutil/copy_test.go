// SPDX-License-Identifier: Apache-2.0

package fsutil

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// folders returns two open folders, and the first one's path.
func folders(t *testing.T) (from, to *os.File, dir string) {
	t.Helper()
	dir = t.TempDir()
	var out [2]*os.File
	for i, d := range []string{dir, t.TempDir()} {
		f, err := os.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		out[i] = f
	}
	return out[0], out[1], dir
}

func plenty() *Budget { return &Budget{Files: 1 << 20, Bytes: 1 << 40} }

// TestCopyLinks: files with several names stay one file, those of which a name lies
// elsewhere are copied, and a socket with two names is as little in the way as one with
// one. There is a bound on what is remembered of them.
func TestCopyLinks(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("gives owners to files, which takes root")
	}
	from, to, dir := folders(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/socket"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	err = errors.Join(os.Mkdir(dir+"/d", 0o755), os.WriteFile(dir+"/f", []byte("f"), 0o600), os.WriteFile(dir+"/g", []byte("g"), 0o600),
		os.Link(dir+"/f", dir+"/d/f2"), os.Link(dir+"/f", dir+"/f3"), os.Link(dir+"/socket", dir+"/socket2"), os.Link(dir+"/g", t.TempDir()+"/g"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Copy(from, to, plenty()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint64{"f": 3, "d/f2": 3, "f3": 3, "g": 1} {
		var st unix.Stat_t
		if err := unix.Lstat(to.Name()+"/"+name, &st); err != nil || uint64(st.Nlink) != want {
			t.Errorf("%s has %d names, %v; want %d", name, st.Nlink, err, want)
		}
	}
	many := func(name string, elsewhere string) {
		t.Helper()
		for i := range 20 {
			p := fmt.Sprintf("/%s%02d", name, i)
			if err := errors.Join(os.WriteFile(dir+p, nil, 0o600), os.Link(dir+p, elsewhere+p+"-")); err != nil {
				t.Fatal(err)
			}
		}
	}
	many("x", t.TempDir())
	_, to2, _ := folders(t)
	if _, err := from.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	c := copier{links: map[file]link{}, limit: 10 * (perLink + 4), left: plenty()}
	if err := c.copy(from, to2); err == nil || !strings.Contains(err.Error(), "files with several names") {
		t.Errorf("error %v", err)
	}
}

// TestBudget: no more is copied than the budget has, which is taken from. Holes cost nothing.
func TestBudget(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("gives owners to files, which takes root")
	}
	from, to, dir := folders(t)
	err := errors.Join(os.Mkdir(dir+"/d", 0o755), os.WriteFile(dir+"/d/f", make([]byte, 10000), 0o600), os.Truncate(dir+"/d/f", 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	left := &Budget{Files: 5, Bytes: 1 << 20}
	if err := Copy(from, to, left); err != nil {
		t.Fatal(err)
	}
	if left.Files != 3 || left.Bytes > 1<<20-10000 || left.Bytes < 1<<19 {
		t.Errorf("left are %d files, %d bytes", left.Files, left.Bytes)
	}
	for _, small := range []Budget{{Files: 1, Bytes: 1 << 20}, {Files: 2, Bytes: 9999}} {
		_, to, _ := folders(t)
		if _, err := from.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		if err := Copy(from, to, &small); !errors.Is(err, ErrBudget) {
			t.Errorf("error %v", err)
		}
	}
}

// TestBudgetOfAttributes: the values of extended attributes, which may be of 64 KiB each on
// some file systems, are counted as files' data is.
func TestBudgetOfAttributes(t *testing.T) {
	from, to, dir := folders(t)
	err := errors.Join(os.WriteFile(dir+"/f", nil, 0o600), unix.Setxattr(dir+"/f", "user.much", make([]byte, 2000), 0))
	if errors.Is(err, unix.ENOTSUP) || os.Getuid() != 0 {
		t.Skipf("sets attributes and gives owners to files: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := Copy(from, to, &Budget{Files: 5, Bytes: 1999}); !errors.Is(err, ErrBudget) {
		t.Errorf("error %v", err)
	}
}

// TestCopyMarks: what an image shows as an overlay's own mark is none in the copy.
func TestCopyMarks(t *testing.T) {
	from, to, dir := folders(t)
	if err := os.Mkdir(dir+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"trusted.overlay.redirect": "/etc", "trusted.other": "x", "user.overlay.opaque": "y"} {
		err := unix.Setxattr(dir+"/d", name, []byte(value), 0)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
			t.Skipf("sets the attribute %s, which takes root and a file system that has such: %v", name, err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := Copy(from, to, plenty()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := unix.Listxattr(to.Name()+"/d", buf)
	if err != nil {
		t.Fatal(err)
	}
	got := string(buf[:n])
	if strings.Contains(got, "trusted.overlay.") || !strings.Contains(got, "trusted.other\x00") || !strings.Contains(got, "user.overlay.opaque\x00") {
		t.Errorf("attributes of the copy: %q", got)
	}
}
