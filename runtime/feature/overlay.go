package feature

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/rootfs"
	"sysbox/runtime/sys"
)

// layers makes an overlay's folders in dir.
func layers(dir string) (lower [2]string, upper, work string, err error) {
	lower = [2]string{dir + "/1", dir + "/2"}
	upper, work = dir+"/upper", dir+"/work"
	for _, d := range []string{lower[0], lower[1], upper, work} {
		err = errors.Join(err, os.Mkdir(d, 0o755))
	}
	return lower, upper, work, err
}

// OverlayOfIDMapped tells whether an overlay works with layers, the upper one
// included, that are folders on the file system of dir and are shifted in their
// mounts. It is mounted as the runtime does, and written to.
func OverlayOfIDMapped(dir string) error {
	return withFolder(dir, func(dir string) error {
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

// OverlayOfFiles tells whether an overlay takes its layers as open files of
// mounts that are attached nowhere.
func OverlayOfFiles(dir string) error {
	return withFolder(dir, func(dir string) error {
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
