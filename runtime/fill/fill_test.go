// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime/fsutil"
	"sysbox/runtime/sys"
	"sysbox/runtime/whiteout"
	"sysbox/tests/leak"
)

func TestMain(m *testing.M) {
	if status, mine := Main(os.Args); mine {
		os.Exit(status)
	}
	os.Exit(leak.Main(m, ""))
}

// filler has no cgroups.
func filler() *Filler {
	return &Filler{Join: func() ([]*os.File, *os.File, error) { return nil, nil, nil }}
}

// on runs f on a thread that outlives what it starts.
func on(t *testing.T, f func() error) error {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("gives owners to files, which takes root")
	}
	return sys.Thread(f)
}

func folder(t *testing.T, names ...string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(dir+"/"+name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestBounds: the bounds are for all folders together, and what is beyond them is an error
// that says what to do.
func TestBounds(t *testing.T) {
	for name, used := range map[string]remaining{
		"files": {Budget: fsutil.Budget{Files: maxFiles - 3}},
		"bytes": {Budget: fsutil.Budget{Bytes: maxBytes - 3}},
	} {
		t.Run(name, func(t *testing.T) {
			f := filler()
			f.used = used
			err := on(t, func() error { return f.Copy(t.Context(), folder(t, "a", "b"), folder(t)) })
			if err != nil {
				t.Fatal(err)
			}
			err = on(t, func() error { return f.Copy(t.Context(), folder(t, "a", "b"), folder(t)) })
			if err == nil || !strings.Contains(err.Error(), "1000000 files and 64 GiB") || !strings.Contains(err.Error(), "volume") {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("marks", func(t *testing.T) {
		f := filler()
		f.used.Marks = whiteout.Max - 1
		dir := folder(t)
		for _, name := range []string{"a", "b"} {
			unix.Mknod(dir.Name()+"/"+name, unix.S_IFCHR, 0)
		}
		if !hasWhiteout(dir, "a") {
			t.Skip("makes whiteouts, which takes root")
		}
		n := whiteout.Max
		if err := whiteout.Stash(t.Context(), dir, &n); err != nil {
			t.Fatal(err)
		}
		err := on(t, func() error { return f.Restore(t.Context(), dir) })
		if err == nil || hasWhiteout(dir, "a") {
			t.Errorf("error %v, a whiteout is there: %v", err, hasWhiteout(dir, "a"))
		}
	})
}

func hasWhiteout(dir *os.File, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR
}

// TestErrno: the errno of an error in the process is that of the Filler's error.
func TestErrno(t *testing.T) {
	from, to := folder(t, "a"), folder(t, "a")
	err := on(t, func() error { return filler().Copy(t.Context(), from, to) })
	if !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "copy a") {
		t.Errorf("error %v", err)
	}
}
