// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/rootfs"
	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

// BenchmarkMount: the overlay of an image with 12 layers, which each Create mounts.
func BenchmarkMount(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("mounts, which takes root")
	}
	dir := b.TempDir()
	var lower []string
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(dir+"/"+d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 12 {
		lower = append(lower, fmt.Sprintf("%s/%d", dir, i))
		if err := os.Mkdir(lower[i], 0o755); err != nil {
			b.Fatal(err)
		}
	}
	ns, err := uidmap.UserNS(ids, ids)
	if err != nil {
		b.Fatal(err)
	}
	defer ns.Close()
	r := rootfs.Config{Dir: dir + "/root", UserNS: ns, UID: ids, GID: ids, Shift: true, Mounts: []plan.RootfsMount{{
		Type: "overlay", Options: []string{"index=off", "lowerdir=" + strings.Join(lower, ":"), "upperdir=" + dir + "/upper", "workdir=" + dir + "/work"},
	}}}
	err = sys.Thread(func() error {
		if err := sys.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		return sys.AsFSID(int(ids[0].HostID), int(ids[0].HostID), func() error {
			for b.Loop() {
				f, _, err := rootfs.Mount(r)
				if err != nil {
					return err
				}
				f.Close()
			}
			return nil
		})
	})
	if err != nil {
		b.Fatal(err)
	}
}
