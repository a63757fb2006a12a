// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// file is one of the shim's own files of a bundle: how it is written, and how what stands in
// it is read, as a string.
type file struct {
	name  string
	write func(dir string) error
	read  func(dir string) (string, error)
}

// written writes the file and returns what is in it.
func (f file) written(t testing.TB, dir string) []byte {
	t.Helper()
	if err := f.write(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, f.name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var files = []file{
	{ExitStatus, func(dir string) error {
		return WriteExit(dir, Exit{Pid: 4711, Status: 137, At: time.Unix(1_700_000_000, 678).UTC()})
	}, func(dir string) (string, error) {
		e, err := ReadExit(dir)
		b, _ := json.Marshal(e)
		return string(b), err
	}},
	{InitPid, func(dir string) error { return WriteInitPid(dir, 4711) }, func(dir string) (string, error) {
		n, err := ReadInitPid(dir)
		b, _ := json.Marshal(n)
		return string(b), err
	}},
	{Address, func(dir string) error { return WriteAddress(dir, "unix:///run/s/"+strings.Repeat("0a", 32)) }, ReadAddress},
	{ConfigPath, func(dir string) error { return WriteConfigPath(dir, "/etc/other config.toml") }, ReadConfigPath},
	{Dirs, func(dir string) error { return WriteDirs(dir, "/run/sysbox two", "/var/lib/\"sysbox\"") }, func(dir string) (string, error) {
		state, data, err := ReadDirs(dir)
		return state + "\x00" + data, err
	}},
}

// TestCutFiles: a file that ends before its end is an error, never another content.
func TestCutFiles(t *testing.T) {
	for _, f := range files {
		dir := t.TempDir()
		name := filepath.Join(dir, f.name)
		whole := f.written(t, dir)
		if _, err := f.read(dir); err != nil {
			t.Error(err)
		}
		for n := range whole {
			if err := os.WriteFile(name, whole[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := f.read(dir); err == nil {
				t.Errorf("%s: %d bytes of %d are read as %q", f.name, n, len(whole), got)
			}
		}
	}
}

// TestFlippedFiles: a file with a bit changed is an error or of the same form; an exit is
// never taken for a success because its status is not there.
func TestFlippedFiles(t *testing.T) {
	for _, f := range files {
		dir := t.TempDir()
		name := filepath.Join(dir, f.name)
		whole := f.written(t, dir)
		for i := range whole {
			for bit := range 8 {
				whole[i] ^= 1 << bit
				if err := os.WriteFile(name, whole, 0o600); err != nil {
					t.Fatal(err)
				}
				whole[i] ^= 1 << bit
				_, _ = f.read(dir)
				if e, err := ReadExit(dir); f.name == ExitStatus && err == nil && (e.Status == 0 || e.Pid == 0 || e.At.IsZero()) {
					t.Errorf("bit %d of byte %d: %+v", bit, i, e)
				}
			}
		}
	}
}

// FuzzFiles: whatever a file has, what is read from it can be written and is read again.
func FuzzFiles(f *testing.F) {
	for i, x := range files {
		f.Add(x.written(f, f.TempDir()), i)
	}
	f.Add([]byte(`{}`), 0)
	f.Add([]byte(`{"pid":5,"timestamp":"2026-01-01T00:00:00Z"}`), 0)
	f.Add([]byte("null"), 0)
	f.Add([]byte("-5\n"), 1)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte, which int) {
		x := files[uint(which)%uint(len(files))]
		if err := os.WriteFile(filepath.Join(dir, x.name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := x.read(dir)
		if err != nil {
			return
		}
		switch x.name {
		case ExitStatus:
			e, err := ReadExit(dir)
			if err != nil || e.Pid <= 0 || e.Status < 0 || e.Status > 255 || e.At.IsZero() {
				t.Errorf("%q is read as %+v, %v", b, e, err)
			}
			err = WriteExit(dir, e)
			if again, err2 := ReadExit(dir); err != nil || err2 != nil || !again.At.Equal(e.At) || again.Pid != e.Pid || again.Status != e.Status {
				t.Errorf("%+v came back as %+v (%v, %v)", e, again, err, err2)
			}
		case Address:
			if got != string(b) || !strings.HasPrefix(got, "unix:///") || strings.ContainsRune(got, 0) {
				t.Errorf("%q is read as %q", b, got)
			}
		case Dirs:
			state, data, err := ReadDirs(dir)
			if err != nil || !filepath.IsAbs(state) || !filepath.IsAbs(data) {
				t.Errorf("%q is read as %q and %q, %v", b, state, data, err)
			}
			if err := WriteDirs(dir, state, data); err != nil {
				t.Fatal(err)
			}
			if s, d, err := ReadDirs(dir); err != nil || s != state || d != data {
				t.Errorf("%q and %q came back as %q and %q, %v", state, data, s, d, err)
			}
		default:
			if got+"\n" != string(b) {
				t.Errorf("%q is read as %q", b, got)
			}
		}
	})
}

// FuzzGroup: whatever a bundle's config.json has, the pod's name is one that can be a
// file's, and another annotation is another pod.
func FuzzGroup(f *testing.F) {
	for _, s := range []string{
		`{}`, `null`, `{"annotations":null}`, `{"annotations":{"io.containerd.runc.v2.group":".."}}`, `{"Annotations":{"IO.containerd.runc.v2.group":"x"}}`,
		`{"annotations":{"io.kubernetes.cri.sandbox-id":"a/b\u0000"}}`, `{"annotations":{"io.containerd.runc.v2.group":"g"}} x`,
	} {
		f.Add([]byte(s), "id", "a", "b/..")
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, config []byte, id, one, other string) {
		ask := func(b []byte) (string, error) {
			if err := os.WriteFile(filepath.Join(dir, Config), b, 0o600); err != nil {
				t.Fatal(err)
			}
			return Group(dir, id)
		}
		name := func(g string) {
			if g == "" || g == "." || g == ".." || strings.ContainsAny(g, "/\x00") || len(g) > 128 {
				t.Errorf("the pod's name is %q", g)
			}
		}
		if g, err := ask(config); err == nil && g != id {
			name(g)
		}
		var groups []string
		for _, v := range []string{one, other} {
			b, err := json.Marshal(map[string]any{"annotations": map[string]string{"io.kubernetes.cri.sandbox-id": v}})
			if err != nil {
				t.Fatal(err)
			}
			g, err := ask(b)
			if err != nil {
				t.Fatal(err)
			}
			if v == "" && g != id {
				t.Errorf("an empty annotation gives the pod %q", g)
			}
			if v != "" {
				name(g)
			}
			groups = append(groups, g)
		}
		if groups[0] == groups[1] && strings.ToValidUTF8(one, "\ufffd") != strings.ToValidUTF8(other, "\ufffd") && one != "" && other != "" {
			t.Errorf("%q and %q are one pod, %q", one, other, groups[0])
		}
	})
}
