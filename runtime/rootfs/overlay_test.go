// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/rootfs"
	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

var ids = uidmap.Map{{ContainerID: 0, HostID: 0x78000000, Size: 65536}}

// mounted mounts a root as the runtime does, on a thread with a mount
// namespace of its own and the ids of the container's root, and lends it.
func mounted(t *testing.T, r rootfs.Config, use func(root string)) error {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounts, which takes root")
	}
	ns, err := uidmap.UserNS(ids, ids)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	r.UserNS, r.UID, r.GID = ns, ids, ids
	return sys.Thread(func() error {
		if err := sys.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := sys.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return err
		}
		return sys.AsFSID(int(ids[0].HostID), int(ids[0].HostID), func() error {
			f, _, err := rootfs.Mount(r)
			if err != nil {
				return err
			}
			defer f.Close()
			use(fmt.Sprintf("/proc/thread-self/fd/%d/", f.Fd()))
			return nil
		})
	})
}

func owned(t *testing.T, name string, want uint32) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Error(err)
	} else if st.Uid != want || st.Gid != want {
		t.Errorf("%s belongs to %d:%d, want %d", filepath.Base(name), st.Uid, st.Gid, want)
	}
}

// layered makes an overlay's folders, with a file in each lower layer.
func layered(t *testing.T, lowers int) (dir string, options []string) {
	t.Helper()
	dir = t.TempDir()
	var lower []string
	for i := range lowers {
		// A colon in a layer's path is escaped in the option.
		l := fmt.Sprintf("%s/lower:%d", dir, i)
		if err := os.MkdirAll(l+"/d", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s/f%d", l, i), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		lower = append(lower, strings.ReplaceAll(l, ":", `\:`))
	}
	for _, d := range []string{"snap/fs", "snap/work", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, []string{"index=off", "lowerdir=" + strings.Join(lower, ":"), "upperdir=" + dir + "/snap/fs", "workdir=" + dir + "/snap/work"}
}

// TestOverlay: files of the layers belong to the container's root, and what it
// makes lies on the disk as the host's root's, by both ways of mounting.
func TestOverlay(t *testing.T) {
	t.Parallel()
	for name, attached := range map[string]bool{"layers as files": false, "layers attached": true} {
		t.Run(name, func(t *testing.T) {
			dir, options := layered(t, 12)
			r := rootfs.Config{Dir: dir + "/root", Shift: true, ForceAttached: attached, Mounts: []plan.RootfsMount{{Type: "overlay", Options: options}}}
			err := mounted(t, r, func(root string) {
				owned(t, root+"f0", ids[0].HostID)
				owned(t, root+"f11", ids[0].HostID)
				if err := os.WriteFile(root+"new", nil, 0o644); err != nil {
					t.Error(err)
				}
				owned(t, root+"new", ids[0].HostID)
				if err := os.Remove(root + "f3"); err != nil {
					t.Error(err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			owned(t, dir+"/snap/fs/new", 0)
			if left, _ := os.ReadDir(dir + "/root"); len(left) > 0 {
				t.Errorf("left in the root's folder: %v", left)
			}
		})
	}
}

// TestOverlayOfCaller: an overlay that the caller has mounted (Docker) is made
// again over shifted layers, and each may write beside the other: docker cp makes files in
// /etc where the container does, too. With SELinux both show the same label.
func TestOverlayOfCaller(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounts, which takes root")
	}
	dir, options := layered(t, 2)
	label := ""
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		label = "system_u:object_r:container_file_t:s0:c1,c2"
		options = append(options, `context="`+label+`"`)
	}
	caller := filepath.Join(dir, "root") + "/"
	if err := unix.Mount("overlay", caller, "overlay", 0, strings.Join(options, ",")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(caller, unix.MNT_DETACH)
	if _, err := os.ReadDir(caller + "d"); err != nil { // the caller has looked around
		t.Fatal(err)
	}
	for _, r := range []string{"first", "second"} { // docker stop, docker start
		err := mounted(t, rootfs.Config{Dir: dir + "/root", Shift: true}, func(root string) {
			f, err := os.Open(root)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if err := rootfs.Share(f, dir+"/root", []string{"/d", "/missing/d"}); err != nil {
				t.Error(err)
			}
			owned(t, root+"f1", ids[0].HostID)
			b := make([]byte, 256)
			n, err := unix.Getxattr(root+"f1", "security.selinux", b)
			if got := strings.TrimRight(string(b[:max(n, 0)]), "\x00"); label != "" && (err != nil || got != label) {
				t.Errorf("the label is %q (%v), want %q", got, err, label)
			}
			if _, err := os.ReadDir(root + "d"); err != nil {
				t.Error(err)
			}
			for _, name := range []string{caller + "f0", caller + "d/caller-" + r, root + "f1", root + "d/container-" + r} {
				if err := os.WriteFile(name, []byte("new"), 0o644); err != nil {
					t.Error(err)
				}
				if strings.HasPrefix(name, caller) { // this thread is the container's root
					if err := os.Lchown(name, 0, 0); err != nil {
						t.Error(err)
					}
				}
			}
			for name, id := range map[string]uint32{root + "d/caller-" + r: ids[0].HostID, caller + "d/container-" + r: 0, caller + "f1": 0} {
				owned(t, name, id)
			}
			if err := os.Remove(root + "d/container-" + r); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestOverlayOfOtherIDs: layers that the caller has made for ids that the spec does not give
// are no container's of ours.
func TestOverlayOfOtherIDs(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounts, which takes root")
	}
	dir, options := layered(t, 1)
	if err := os.Chown(dir+"/snap/work", 500000, 500000); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("overlay", dir+"/root", "overlay", 0, strings.Join(options, ",")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir+"/root", unix.MNT_DETACH)
	err := mounted(t, rootfs.Config{Dir: dir + "/root", Shift: true}, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "belong to uid 500000") || !strings.Contains(err.Error(), "userns-remap") {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir + "/snap/work"); len(left) > 1 { // work is the kernel's
		t.Errorf("left in the workdir: %v", left)
	}
}

// TestPreparedByCaller: containerd's own mappings shift the lower layers, and
// nothing is added.
func TestPreparedByCaller(t *testing.T) {
	t.Parallel()
	dir, options := layered(t, 2)
	options = append(options, "uidmap=0:2000000000:65536", "gidmap=0:2000000000:65536")
	r := rootfs.Config{Dir: dir + "/root", Mounts: []plan.RootfsMount{{Type: "overlay", Options: options}}}
	err := mounted(t, r, func(root string) { owned(t, root+"f1", 2000000000) })
	if err != nil {
		t.Fatal(err)
	}
}

// TestForcedChown: without idmapped mounts the files are chowned, and put back.
func TestForcedChown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	journal := t.TempDir()
	told := ""
	r := rootfs.Config{Dir: dir, Shift: true, ForceChown: true, Journal: journal, BeforeChown: func(root string) error { told = root; return nil }}
	if err := mounted(t, r, func(root string) { owned(t, root+"f", ids[0].HostID) }); err != nil {
		t.Fatal(err)
	}
	if told != dir {
		t.Errorf("told of %q before the first chown, want %q", told, dir)
	}
	if err := uidmap.Revert(journal, dir); err != nil {
		t.Fatal(err)
	}
	owned(t, dir+"/f", 0)
}

func TestRefusedRoots(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		r    rootfs.Config
		want string
	}{
		{"two mounts", rootfs.Config{Mounts: make([]plan.RootfsMount, 2)}, "2 mounts"},
		{"a target", rootfs.Config{Mounts: []plan.RootfsMount{{Type: "bind", Source: "/tmp", Target: "/x"}}}, "/x"},
		{"an overlay without layers", rootfs.Config{Mounts: []plan.RootfsMount{{Type: "overlay"}}}, "lowerdir"},
		{"a relative layer", rootfs.Config{Mounts: []plan.RootfsMount{{Type: "overlay", Options: []string{"lowerdir=l/ABC"}}}}, "l/ABC"},
		{"an unknown option", rootfs.Config{Mounts: []plan.RootfsMount{{Type: "bind", Source: "/tmp", Options: []string{"wibble"}}}}, "wibble"},
	} {
		err := mounted(t, c.r, func(string) {})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
	}
}
