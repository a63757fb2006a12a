// SPDX-License-Identifier: Apache-2.0

package feature

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/rootfs"
	"sysbox/runtime/sys"
)

// layers makes the directories of an overlay in dir.
func layers(dir string) (lower [2]string, upper, work string, err error) {
	lower = [2]string{dir + "/1", dir + "/2"}
	upper, work = dir+"/upper", dir+"/work"
	for _, d := range []string{lower[0], lower[1], upper, work} {
		err = errors.Join(err, os.Mkdir(d, 0o755))
	}
	return lower, upper, work, err
}

// OverlayOfIDMapped checks that an overlay works if its layers, including the upper
// one, are directories on the file system of dir that are shifted in their mounts. It mounts
// the overlay like the runtime, and writes to it.
func OverlayOfIDMapped(dir string) error {
	return withDir(dir, func(dir string) error {
		lower, upper, work, err := layers(dir)
		if err != nil {
			return err
		}
		return withUserNS(func(ns *os.File) error {
			return apart(func() error {
				id := int(shifted[0].HostID)
				return sys.AsFSID(id, id, func() error {
					mnt, _, err := rootfs.Mount(rootfs.Config{
						Dir: "/sys", UserNS: ns, UID: shifted, GID: shifted, Shift: true,
						Mounts: []plan.RootfsMount{{Type: "overlay", Source: "overlay", Options: []string{
							"lowerdir=" + lower[0] + ":" + lower[1], "upperdir=" + upper, "workdir=" + work,
						}}},
					})
					if err != nil {
						return err
					}
					defer mnt.Close()
					if err := unix.Mkdirat(int(mnt.Fd()), "made", 0o755); err != nil {
						return os.NewSyscallError("mkdirat in the overlay", err)
					}
					return isShifted(mnt)
				})
			})
		})
	})
}

// OverlayOfFiles checks that an overlay accepts its layers as open files of detached
// mounts.
func OverlayOfFiles(dir string) error {
	return withDir(dir, func(dir string) error {
		lower, _, _, err := layers(dir)
		if err != nil {
			return err
		}
		c, err := sys.Fsopen("overlay")
		if err != nil {
			return err
		}
		defer c.Close()
		for _, d := range lower {
			mnt, err := sys.OpenTree(nil, d, false)
			if err != nil {
				return err
			}
			defer mnt.Close()
			if err := c.SetFD("lowerdir+", mnt); err != nil {
				return err
			}
		}
		return c.Create()
	})
}
