// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// etc makes a folder with these files.
func etcWith(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

func TestSubidLines(t *testing.T) {
	for _, c := range []struct {
		name, line string
		own        []Range
	}{
		{"plain", "sysbox:100000:65536", []Range{{100000, 65536}}},
		{"no newline and spaces around", "  sysbox:100000:65536  ", []Range{{100000, 65536}}},
		{"two that touch", "sysbox:100000:65536\nsysbox:165536:10", []Range{{100000, 65546}}},
		{"two that overlap", "sysbox:100010:10\nsysbox:100000:15", []Range{{100000, 20}}},
		{"two apart, not in order", "sysbox:300000:5\nsysbox:200000:5", []Range{{200000, 5}, {300000, 5}}},
		{"the host's root is left out", "sysbox:0:10", []Range{{1, 9}}},
		{"only root", "sysbox:0:1", nil},
		{"the last ids", "sysbox:4294967290:5", []Range{{4294967290, 5}}},
		{"(uid_t)-1", "sysbox:4294967290:6", nil},
		{"wraps round", "sysbox:4294967295:4294967295", nil},
		{"more than 32 bits", "sysbox:4294967396:65536", nil},
		{"more than 64 bits", "sysbox:100000:18446744073709551617", nil},
		{"negative", "sysbox:-5:65536", nil},
		{"a sign", "sysbox:+5:65536", nil},
		{"hexadecimal", "sysbox:0x100000:65536", nil},
		{"no ids", "sysbox:100000:0", nil},
		{"a field too few", "sysbox:100000", nil},
		{"a field too many", "sysbox:100000:65536:", nil},
		{"another's", "sysboxer:100000:65536", nil},
		{"other case", "Sysbox:100000:65536", nil},
		{"nobody's", ":100000:65536", nil},
		{"a comment", "#sysbox:100000:65536", nil},
		{"a NUL", "sysbox\x00:100000:65536", nil},
		{"blanks inside", "sysbox: 100000:65536", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			own, _, err := subids(etcWith(t, map[string]string{"subuid": c.line})+"/subuid", "sysbox")
			if err != nil || !slices.Equal(own, c.own) {
				t.Errorf("%v, %v, want %v", own, err, c.own)
			}
		})
	}
}

// all takes ranges until there are none.
func all(t *testing.T, p Pool) ([]Range, error) {
	t.Helper()
	a, err := Open(t.TempDir(), p)
	must(t, err)
	t.Cleanup(func() { a.Close() })
	var out []Range
	for i := range 10000 {
		l, err := a.Acquire(fmt.Sprint("ns/", i))
		if err != nil {
			return out, err
		}
		t.Cleanup(func() { _ = l.Release() })
		if l.UID() != l.GID() {
			t.Errorf("uids %v, gids %v", l.UID(), l.GID())
		}
		out = append(out, l.UID())
	}
	t.Fatal("there is no end of ranges")
	return nil, nil
}

func TestPools(t *testing.T) {
	const own = "sysbox:100000:131072\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		pool  Pool
		want  []Range
		err   string
	}{
		{
			"both files",
			map[string]string{"subuid": own, "subgid": own},
			Pool{User: "sysbox"},
			[]Range{{100000, 65536}, {165536, 65536}},
			"sysbox",
		},
		{
			"what both have in common",
			map[string]string{"subuid": own, "subgid": "sysbox:150000:100000\n"},
			Pool{User: "sysbox"},
			[]Range{{150000, 65536}},
			"sysbox",
		},
		{"nothing in common", map[string]string{"subuid": own, "subgid": "sysbox:500000:65536\n"}, Pool{User: "sysbox"}, nil, "no room"},
		{"one file only", map[string]string{"subuid": own}, Pool{User: "sysbox"}, nil, "only one of"},
		{
			"configured", nil,
			Pool{User: "sysbox", Start: 1 << 20, Size: 3 << 16},
			[]Range{{1 << 20, 65536}, {1<<20 + 65536, 65536}, {1<<20 + 131072, 65536}},
			"1048576-1245183",
		},
		{
			"another user's ids are left out",
			map[string]string{"subuid": "alice:1114112:1\n", "subgid": "x:y:z\n"},
			Pool{User: "sysbox", Start: 1 << 20, Size: 3 << 16},
			[]Range{{1 << 20, 65536}, {1<<20 + 131072, 65536}},
			"1048576-1245183",
		},
		{
			"so are people's and groups'",
			map[string]string{"passwd": "root:x:0:0::/:/bin/sh\nbob:x:1048576:1::/:\n", "group": "wheel:x:1179648:\nbad\n"},
			Pool{Start: 1 << 20, Size: 3 << 16},
			[]Range{{1<<20 + 65536, 65536}},
			"1048576-1245183",
		},
		{"holds root", nil, Pool{Start: 0, Size: 1 << 20}, nil, "must not contain id 0"},
		{"beyond the last id", nil, Pool{Start: 1<<32 - 65536, Size: 65536}, nil, "4294967294"},
		{"smaller than a range", nil, Pool{Start: 1 << 20, Size: 65535}, nil, "ids.range_size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.pool.etc, c.pool.RangeSize = etcWith(t, c.files), 65536
			got, err := all(t, c.pool)
			slices.SortFunc(got, func(a, b Range) int { return int(int64(a.HostID) - int64(b.HostID)) })
			if !slices.Equal(got, c.want) {
				t.Errorf("ranges %v, want %v", got, c.want)
			}
			if !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v\ndoes not say %q", err, c.err)
			}
		})
	}
}

// The default pool is clear of what others give out, and other users' entries
// are left out of it.
func TestDefaultPool(t *testing.T) {
	etc := etcWith(t, map[string]string{"subuid": fmt.Sprintf("alice:%d:%d\n", DefaultStart, DefaultPoolSize/2)})
	got, err := all(t, Pool{User: "sysbox", etc: etc})
	t.Log(err)
	if want := DefaultPoolSize / DefaultRangeSize / 2; len(got) != want {
		t.Errorf("%d ranges, want %d", len(got), want)
	}
	for _, r := range got {
		if r.HostID < DefaultStart+DefaultPoolSize/2 || r.HostID%DefaultRangeSize != 0 || r.end() > 2147352576 {
			t.Errorf("range %v", r)
		}
	}
}

// A record with any one byte changed keeps its range from others while it is
// held, and no longer.
func TestCorruptedRecords(t *testing.T) {
	p := Pool{Start: 1 << 20, Size: 2 << 16, RangeSize: 65536, etc: "/nonexistent"}
	a, err := Open(t.TempDir(), p)
	must(t, err)
	defer a.Close()
	for i, done := 0, false; !done; i++ {
		l, err := a.Acquire("ns/spoiled")
		must(t, err)
		name := a.path(recordName(l.UID()))
		b, err := os.ReadFile(name)
		must(t, err)
		done = i == len(b)-1
		for _, v := range []byte{0, '"', b[i] ^ 0x80} {
			bad := slices.Clone(b)
			bad[i] = v
			must(t, os.WriteFile(name, bad, 0o600))
			one, err := a.Acquire("ns/one")
			must(t, err)
			if one.UID() == l.UID() {
				t.Fatalf("byte %d as %#x: the range was given out twice", i, v)
			}
			if two, err := a.Acquire("ns/two"); err == nil {
				t.Fatalf("byte %d as %#x: a third range %v of two", i, v, two.UID())
			}
			must(t, one.Release())
		}
		l.f.Close() // as when its process is killed
		one, err := a.Acquire("ns/one")
		must(t, err)
		two, err := a.Acquire("ns/two")
		if err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
		must(t, errors.Join(one.Release(), two.Release(), a.Reclaim(nil)))
	}
}

// Whatever else lies in the folder is left alone and stops nobody.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	p := Pool{Start: 1 << 20, Size: 4 << 16, RangeSize: 65536, etc: "/nonexistent"}
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte(`{"owner":"ns/a"}`), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, recordName(Range{1 << 20, 65536})), 0o700))
	must(t, os.Symlink(outside, filepath.Join(dir, recordName(Range{1<<20 + 65536, 65536}))))
	must(t, os.WriteFile(filepath.Join(dir, "r-1-x"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "lock"), []byte("garbage that is no hint at all, and long"), 0o600))
	a, err := Open(dir, p)
	must(t, err)
	defer a.Close()
	for _, owner := range []string{"ns/a", "ns/b"} {
		l, err := a.Acquire(owner)
		must(t, err)
		if r := l.UID(); r.HostID < 1<<20+131072 {
			t.Errorf("%s got %v, which a foreign file has the name of", owner, r)
		}
	}
	if _, err := a.Acquire("ns/c"); err == nil {
		t.Error("a third range of two")
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != `{"owner":"ns/a"}` {
		t.Errorf("the file outside: %q, %v", b, err)
	}
}

// Owners are names of containerd's, with any character in them.
func TestOwners(t *testing.T) {
	a, err := Open(t.TempDir(), nobodys)
	must(t, err)
	defer a.Close()
	seen := map[Range]string{}
	for _, owner := range []string{"a/b", "a", "b", "a//b", "../../etc", "/", ".", "a\x00b", "a\nb", "ü", strings.Repeat("x", 5000)} {
		l, err := a.Acquire(owner)
		if err != nil {
			t.Errorf("%q: %v", owner, err)
			continue
		}
		if was, ok := seen[l.UID()]; ok {
			t.Errorf("%q and %q have the range %v", was, owner, l.UID())
		}
		seen[l.UID()] = owner
		if _, err := a.Acquire(owner); !errors.Is(err, ErrHeld) {
			t.Errorf("%q again: %v", owner, err)
		}
		must(t, l.Release())
		must(t, l.Release())
		must(t, a.ReleaseOwner(owner))
		must(t, a.ReleaseOwner(owner))
	}
	for _, bad := range []string{"", "a/\xff"} {
		if _, err := a.Acquire(bad); err == nil {
			t.Errorf("no error for the owner %q", bad)
		}
	}
}
