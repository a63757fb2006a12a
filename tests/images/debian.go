// SPDX-License-Identifier: Apache-2.0

package images

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sysbox/tests/peers"
)

// debian is a root file system made by debootstrap.
type debian struct {
	suite    string
	packages []string
	// script is the suite whose steps debootstrap takes, "" for suite's own.
	script string
	// change adds what is not in packages; nil for nothing. revision counts its
	// changes, as the cache goes by packages.
	change   func(root string) error
	revision string
}

// base are the packages of every Debian image.
var base = []string{
	"systemd", "systemd-sysv", "dbus", "libpam-systemd", "iptables", "docker.io", "docker-cli",
	"iproute2", "procps", "util-linux", "kmod",
}

// stable is a suite whose Docker is 26 or newer.
var stable = debian{suite: "trixie", packages: base}

// nfs has servers of NFS, in the kernel and out of it, and a client that needs no kernel.
var nfs = debian{suite: "trixie", packages: []string{
	"iproute2", "procps", "util-linux", "nfs-kernel-server", "nfs-ganesha", "nfs-ganesha-mem", "nfs-ganesha-vfs", "libnfs-utils",
}}

// disks has what mounts block devices: mount(8) of a suite, and a server of FUSE for ext4.
func disks(suite string) debian {
	return debian{suite: suite, packages: []string{"systemd", "systemd-sysv", "dbus", "mount", "util-linux", "e2fsprogs", "fuse2fs"}}
}

// newest has the newest that Debian has of what runs containers.
var newest = debian{
	suite: "forky", script: "sid",
	packages: append(append([]string{}, base...), "docker-buildx", "podman", "crun", "runc", "fuse-overlayfs", "nftables",
		"uidmap", "slirp4netns", "passt", "netavark", "aardvark-dns", "catatonit", "dbus-user-session", "bubblewrap",
		"qemu-user", "qemu-user-binfmt", "debootstrap", "strace", "fuse3", "sudo"),
	change: func(root string) error {
		runc, err := peers.Runc()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(filepath.Join(runc, "runc"))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "opt/runc"), b, 0o755); err != nil {
			return err
		}
		if err := helloArm64(filepath.Join(root, "opt/hello-arm64")); err != nil {
			return err
		}
		return tarball(stable.suite, filepath.Join(root, "opt/debs.tgz"))
	},
	revision: "2",
}

// Debian makes an image of an unmodified Debian with systemd and Docker, and
// a busybox image for the inner Docker in /opt, and returns the archive's
// path. The packages come from the mirror in the system's own apt sources.
func Debian() (string, error) { return stable.image("debian", DebianName) }

// Inner makes an image of the newest Debian with all that the tests run in a system
// container: Docker, podman, runc, crun, buildx with QEMU, bubblewrap. In /opt are the
// busybox image, the newest runc, a program for arm64, and what debootstrap needs to work
// without a network.
func Inner() (string, error) { return newest.image("inner", InnerName) }

// NFS makes an image with nfs-ganesha, the kernel server's tools and libnfs.
func NFS() (string, error) { return nfs.image("nfs", NFSName) }

// Disks makes an image of a suite of Debian with systemd and fuse2fs, by the name
// [DisksName] and the suite's as tag.
func Disks(suite string) (string, error) {
	return disks(suite).image("disks-"+suite, DisksName+":"+suite)
}

func (d debian) image(name, ref string) (string, error) {
	busybox, err := Busybox()
	if err != nil {
		return "", err
	}
	key := fmt.Sprintf("%x", sha256.Sum256([]byte(d.suite+strings.Join(d.packages, ",")+d.revision)))
	dir, err := peers.Once("image-"+name+"-"+key[:12], func(dir string) error {
		root := filepath.Join(dir, "root")
		if err := d.bootstrap(root); err != nil {
			return err
		}
		b, err := os.ReadFile(busybox)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "opt/busybox.tar"), b, 0o644); err != nil {
			return err
		}
		if d.change != nil {
			if err := d.change(root); err != nil {
				return err
			}
		}
		if err := save(filepath.Join(dir, "image.tar"), root, ref, []string{"/sbin/init"}, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"); err != nil {
			return err
		}
		return os.RemoveAll(root)
	})
	return filepath.Join(dir, "image.tar"), err
}

func (d debian) bootstrap(root string) error {
	mirror, err := mirror()
	if err != nil {
		return err
	}
	args := []string{"--variant=minbase", "--include=" + strings.Join(d.packages, ","), d.suite, root, mirror}
	if d.script != "" { // this host's debootstrap may be older than the suite's name
		args = append(args, "/usr/share/debootstrap/scripts/"+d.script)
	}
	if out, err := exec.Command("debootstrap", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("debootstrap %s: %w\n%s", d.suite, err, tail(out))
	}
	return removeDebs(root)
}

func removeDebs(root string) error {
	debs, err := filepath.Glob(filepath.Join(root, "var/cache/apt/archives/*.deb"))
	if err != nil {
		return err
	}
	for _, d := range debs {
		if err := os.Remove(d); err != nil {
			return err
		}
	}
	return nil
}

// tarball has debootstrap gather the packages of a minimal system.
func tarball(suite, to string) error {
	mirror, err := mirror()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "debs-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command("debootstrap", "--variant=minbase", "--make-tarball="+to, suite, dir, mirror).CombinedOutput(); err != nil {
		return fmt.Errorf("debootstrap --make-tarball %s: %w\n%s", suite, err, tail(out))
	}
	return nil
}

// helloArm64 builds a program for arm64 that says so and makes /made.
func helloArm64(to string) error {
	dir, err := os.MkdirTemp("", "hello-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source := `package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Println("hello from", runtime.GOARCH)
	os.WriteFile("/made", nil, 0o644)
}
`
	if err := os.WriteFile(filepath.Join(dir, "hello.go"), []byte(source), 0o644); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-o", to, "hello.go")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build a program for arm64: %w\n%s", err, tail(out))
	}
	return nil
}

func tail(b []byte) []byte { return b[max(0, len(b)-2000):] }

// mirror is the one that the system's own sources name for Debian.
func mirror() (string, error) {
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*.sources")
	lists, _ := filepath.Glob("/etc/apt/sources.list.d/*.list")
	for _, name := range append(append(files, "/etc/apt/sources.list"), lists...) {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		s := bufio.NewScanner(f)
		for s.Scan() {
			fields := strings.Fields(s.Text())
			if len(fields) < 2 || fields[0] != "URIs:" && fields[0] != "deb" {
				continue
			}
			for _, u := range fields[1:] {
				if strings.HasSuffix(strings.TrimSuffix(u, "/"), "/debian") {
					f.Close()
					return u, nil
				}
			}
		}
		f.Close()
	}
	return "", fmt.Errorf("no apt source of this system has a Debian mirror; add one to /etc/apt/sources.list")
}
