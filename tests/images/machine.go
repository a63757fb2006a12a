// SPDX-License-Identifier: Apache-2.0

package images

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sysbox/tests/peers"
)

// source is the suite that a machine's packages are of, and the one of its kernel.
type source struct{ suite, kernel string }

// kernels that a machine can be had with. Nothing starts on 5.10; it is there to see that
// it is said.
var kernels = map[string]source{
	"5.10":   {"bullseye", "bullseye"},
	"6.1":    {"bookworm", "bookworm"},
	"6.12":   {"trixie", "trixie"},
	"newest": {"trixie", "trixie-backports"},
}

// machine are the packages of a machine.
var machine = []string{
	"systemd", "systemd-sysv", "dbus", "libpam-systemd", "kmod", "initramfs-tools",
	"apparmor", "iproute2", "iptables", "procps", "util-linux", "busybox-static", "strace", "nfs-kernel-server",
}

// policy are those of a machine with SELinux beside.
var policy = []string{"selinux-policy-default", "policycoreutils", "selinux-utils"}

// unit runs what the host shares as "job" and ends the machine. Without udev nothing
// tells systemd of the serial line, so a login there would wait for it.
const unit = `[Unit]
Description=What the host wants done
After=basic.target apparmor.service systemd-modules-load.service

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mkdir -p /job && mount -t 9p -o trans=virtio,ro job /job && exec /bin/sh /job/run'
ExecStopPost=/bin/systemctl poweroff --force --force
TimeoutStartSec=infinity
LimitNOFILE=1048576
TasksMax=infinity
`

// files are what a machine has beside its packages, and masked the units that it does
// without.
var (
	files = map[string]string{
		"etc/systemd/system/job.service":  unit,
		"etc/modules-load.d/tests.conf":   "9p\n9pnet_virtio\noverlay\nfuse\ntun\nbinfmt_misc\nbridge\nveth\n",
		"etc/initramfs-tools/modules":     "virtio_pci\nvirtio_blk\next4\n",
		"etc/initramfs-tools/conf.d/list": "MODULES=list\n",
		"etc/hostname":                    "machine\n",
		"etc/fstab":                       "",
	}
	masked = []string{
		"serial-getty@ttyS0.service", "getty@tty1.service", "apt-daily.timer", "apt-daily-upgrade.timer",
		"nfs-server.service", "rpcbind.service", "rpcbind.socket",
	}
)

// A machine's security modules that exclude each other.
const (
	AppArmor = "apparmor"
	SELinux  = "selinux"
)

// disk is what a machine's disk is made of.
type disk struct {
	name string // in the cache
	source
	packages []string
	files    map[string]string
	// labelled tells that its files have the labels of the policy on it.
	labelled bool
}

// of is the disk with a kernel for one of the security modules.
func (s source) of(kernel, module string) (disk, error) {
	d := disk{name: "machine-" + kernel, source: s, packages: machine, files: files}
	switch module {
	case AppArmor:
	case SELinux:
		d.name, d.labelled = "machine-selinux-"+kernel, true
		d.packages = append(slices.Clone(machine), policy...)
		d.files = maps.Clone(files)
		d.files["etc/selinux/config"] = "SELINUX=permissive\nSELINUXTYPE=default\n"
	default:
		return d, fmt.Errorf("security module %q is none of %s, %s", module, AppArmor, SELinux)
	}
	return d, nil
}

// Machine makes the disk of a machine that runs a Debian with systemd, the given kernel
// and what the security module needs, and returns the folder with disk.img, vmlinuz and
// initrd. The newest that the suite has of kernel and packages is taken; the cache goes by
// all that it is made of.
func Machine(kernel, module string) (string, error) {
	from, ok := kernels[kernel]
	if !ok {
		return "", fmt.Errorf("kernel %q is none of %s", kernel, strings.Join(slices.Sorted(maps.Keys(kernels)), ", "))
	}
	d, err := from.of(kernel, module)
	if err != nil {
		return "", err
	}
	versions, err := d.versions()
	if err != nil {
		return d.last(err)
	}
	key := sha256.Sum256(fmt.Append(nil, d.source, versions, d.files, masked, recipe)) // fmt sorts maps
	return peers.Once(fmt.Sprintf("%s-%x", d.name, key[:6]), d.make)
}

// recipe is to be counted up with each change of make that its data does not show.
const recipe = 1

// versions are those of a machine's packages and kernel, a line each.
func (d disk) versions() (string, error) {
	v, err := versions(d.suite, d.packages)
	if err != nil {
		return "", err
	}
	k, err := versions(d.kernel, []string{"linux-image-amd64"})
	return v + k, err
}

// last is the youngest of the cache, where nobody can be asked what is newest.
func (d disk) last(why error) (string, error) {
	cache, err := peers.Cache()
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(cache, d.name+"-*", "disk.img"))
	if err != nil || len(found) == 0 {
		return "", errors.Join(why, err)
	}
	age := func(name string) int64 {
		info, err := os.Stat(name)
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	last := slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(age(a), age(b)) })
	fmt.Fprintf(os.Stderr, "the cached %s is taken: %v\n", d.name, why)
	return filepath.Dir(last), nil
}

func (d disk) make(dir string) error {
	root := filepath.Join(dir, "root")
	if err := (debian{suite: d.suite, packages: d.packages}).bootstrap(root); err != nil {
		return err
	}
	for name, text := range d.files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "etc/resolv.conf"), resolv, 0o644); err != nil {
		return err
	}
	if d.kernel != d.suite {
		from, err := mirror()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "etc/apt/sources.list.d/kernel.list"), []byte("deb "+from+" "+d.kernel+" main\n"), 0o644); err != nil {
			return err
		}
	}
	steps := [][]string{
		{"apt-get", "update", "-qq"},
		// After initramfs-tools, of which debootstrap would take dracut beside.
		{"apt-get", "install", "-y", "-qq", "--no-install-recommends", "-t", d.kernel, "linux-image-amd64"},
		append([]string{"systemctl", "mask"}, masked...),
		{"ln", "-s", "../job.service", "/etc/systemd/system/multi-user.target.wants/job.service"},
	}
	if d.labelled {
		steps = append(steps, []string{"setfiles", "/etc/selinux/default/contexts/files/file_contexts", "/"})
	}
	for _, args := range steps {
		if out, err := exec.Command("chroot", append([]string{root}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s in the machine's root: %w\n%s", args[0], err, tail(out))
		}
	}
	if err := removeDebs(root); err != nil {
		return err
	}
	for name, pattern := range map[string]string{"vmlinuz": "boot/vmlinuz-*", "initrd": "boot/initrd.img-*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("the machine's root has %d of %s, want 1", len(found), pattern)
		}
		if err := os.Rename(found[0], filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	image := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(image, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(image, 8<<30); err != nil {
		return err
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-d", root, image).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w\n%s", err, tail(out))
	}
	return os.RemoveAll(root)
}
