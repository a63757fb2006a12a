// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzOwnLink: of a path through its caller's folder in /proc, what is opened in the
// host's procfs is a link there, by no more than its name.
func FuzzOwnLink(f *testing.F) {
	for _, s := range []string{
		"/proc/self/fd/3", "/proc/self/cwd/../x", "/proc/self/../../etc", "/proc/self/./../1/root", "/proc/thread-self/../../../tmp/", "/proc/self/task/5/../../../x",
		"/proc/thread-self/cwd/x", "/proc/thread-self/../../cwd", "/proc/self/fd/../../self/root//etc", "/proc/self/", "/proc/self/.", "/proc/selfish", "/proc/self/..", "/proc/self//", "proc/self/x", "/proc/self/fd", "/proc/self/task/..//..", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		magic, thread, rest, plain := ownLink(p)
		if magic == "" {
			// Without the detour, the way is the same: /proc/thread-self is a folder two below.
			deep := func(s string) string {
				if tail, ok := strings.CutPrefix(s, "/proc/thread-self/"); ok {
					s = "/proc/self/task/t/" + tail
				}
				return path.Clean(s)
			}
			if rest != "" || strings.HasPrefix(p, "/") && deep(plain) != deep(p) || !strings.HasPrefix(p, "/") && plain != p {
				t.Errorf("%q became the plain path %q", p, plain)
			}
			if _, _, ok := cutSelf(plain); ok && deep(plain) != "/proc/self" && deep(plain) != "/proc/self/task/t" {
				t.Errorf("%q became %q, which is a way into the folder", p, plain)
			}
			return
		}
		parts := strings.Split(magic, "/")
		if plain != "" || len(parts) > 2 || len(parts) == 2 && parts[0] != "fd" && parts[0] != "task" || strings.HasPrefix(rest, "/") {
			t.Errorf("%q became %q and %q, plain %q", p, magic, rest, plain)
		}
		for _, x := range []string{"", ".", ".."} {
			if slices.Contains(parts, x) {
				t.Errorf("%q leads out of the folder: %q", p, magic)
			}
		}
		// The thread's folder, once left, is not come back to.
		if link := path.Clean(strings.TrimSuffix(p, rest)); thread != (link == threadSelf+magic) {
			t.Errorf("%q became %q, of the thread: %t", p, magic, thread)
		}
		if !strings.HasSuffix(p, rest) {
			t.Errorf("what follows in %q is not %q", p, rest)
		}
	})
}

// FuzzSplit: a path is cut into a folder and a name that mknodat(2) can make.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{"a", "/a", "a/b", "/", "a/", "..", "a/..", ".", "//a", "/proc/self/cwd/n", strings.Repeat("x", 256), "a\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		dir, name, e := split(p)
		if e != 0 || p == "" { // an empty path is ENOENT before
			return
		}
		if name == "" || name == "." || name == ".." || strings.Contains(name, "/") || len(name) > unix.NAME_MAX || dir != "." && dir+name != p || dir == "." && name != p {
			t.Errorf("%q became %q and %q", p, dir, name)
		}
	})
}

// FuzzOverlayOptions: options are handed on as they are, userxattr behind them, or not at all.
func FuzzOverlayOptions(f *testing.F) {
	for _, s := range []string{"", "lowerdir=/a,upperdir=/b,workdir=/c", "userxattr", "a,metacopy=on", `lowerdir=/a\`, `lowerdir=/a\,userxattr`, ",", strings.Repeat("x", pageSize-11), strings.Repeat("x", pageSize-10)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := withUserXattr(s)
		list := strings.Split(got, ",")
		switch {
		case !ok && got != "":
			t.Errorf("%q: %q, but not to be used", s, got)
		case !ok:
		case len(got) >= pageSize || list[len(list)-1] != "userxattr" || strings.TrimSuffix(strings.TrimSuffix(got, "userxattr"), ",") != strings.TrimSuffix(s, ",") && got != s+",userxattr":
			t.Errorf("%q became %q", s, got)
		case strings.Count(","+got+",", ",userxattr,") != 1 || strings.HasSuffix(s, `\`):
			t.Errorf("%q became %q, in which the option is not one", s, got)
		}
	})
}

// FuzzIdentity: a status that is not whole gives no identity, and none gives capabilities
// that are not in it.
func FuzzIdentity(f *testing.F) {
	const status = "Name:\tsh\nUmask:\t0022\nTgid:\t12\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nCapEff:\t000001ffffffffff\n"
	f.Add([]byte(status))
	f.Add([]byte(status[:len(status)-20]))
	f.Add([]byte("Uid:\t0\t0\t0\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\nTgid:\t1\nUmask:\t0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := parseIdentity(b)
		if err != nil {
			return
		}
		for _, key := range []string{"Tgid:", "Uid:", "Gid:", "Groups:", "Umask:", "CapEff:"} {
			if n := strings.Count("\n"+string(b), "\n"+key); n != 1 {
				t.Errorf("an identity %+v is made of %q, which has %s %d times", id, b, key, n)
			}
		}
		if id.umask < 0 {
			t.Errorf("umask %d", id.umask)
		}
	})
}

// TestIdentityCut: of a status that ends anywhere but at its end, no identity is made that
// differs from the whole one's.
func TestIdentityCut(t *testing.T) {
	const status = "Umask:\t0022\nTgid:\t12\nUid:\t11\t22\t33\t44\nGid:\t55\t66\t77\t88\nGroups:\t99 100 \nCapEff:\t000001ffffffffff\n"
	for n := range len(status) {
		if id, err := parseIdentity([]byte(status[:n])); err == nil {
			t.Errorf("%q gives %+v", status[:n], id)
		}
	}
}
