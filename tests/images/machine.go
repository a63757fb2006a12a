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

// Machine makes the disk of a machine that runs a Debian with systemd and the given
// kernel, and returns the folder with disk.img, vmlinuz and initrd. The newest that the
// suite has of kernel and packages is taken; the cache goes by all that it is made of.
func Machine(kernel string) (string, error) {
	from, ok := kernels[kernel]
	if !ok {
		return "", fmt.Errorf("kernel %q is none of %s", kernel, strings.Join(slices.Sorted(maps.Keys(kernels)), ", "))
	}
	versions, err := from.versions()
	if err != nil {
		return lastMachine(kernel, err)
	}
	key := sha256.Sum256(fmt.Append(nil, from, versions, files, masked, recipe)) // fmt sorts maps
	return peers.Once(fmt.Sprintf("machine-%s-%x", kernel, key[:6]), func(dir string) error {
		return from.make(dir)
	})
}

// recipe is to be counted up with each change of make that its data does not show.
const recipe = 1

// versions are those of a machine's packages and kernel, a line each.
func (s source) versions() (string, error) {
	v, err := versions(s.suite, machine)
	if err != nil {
		return "", err
	}
	k, err := versions(s.kernel, []string{"linux-image-amd64"})
	return v + k, err
}

// lastMachine is the youngest of the cache, where nobody can be asked what is newest.
func lastMachine(kernel string, why error) (string, error) {
	cache, err := peers.Cache()
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(cache, "machine-"+kernel+"-*", "disk.img"))
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
	fmt.Fprintf(os.Stderr, "the cached machine of %s is taken: %v\n", kernel, why)
	return filepath.Dir(last), nil
}

func (s source) make(dir string) error {
	root := filepath.Join(dir, "root")
	if err := (debian{suite: s.suite, packages: machine}).bootstrap(root); err != nil {
		return err
	}
	for name, text := range files {
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
	if s.kernel != s.suite {
		from, err := mirror()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "etc/apt/sources.list.d/kernel.list"), []byte("deb "+from+" "+s.kernel+" main\n"), 0o644); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"apt-get", "update", "-qq"},
		// After initramfs-tools, of which debootstrap would take dracut beside.
		{"apt-get", "install", "-y", "-qq", "--no-install-recommends", "-t", s.kernel, "linux-image-amd64"},
		append([]string{"systemctl", "mask"}, masked...),
		{"ln", "-s", "../job.service", "/etc/systemd/system/multi-user.target.wants/job.service"},
	} {
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
	disk := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(disk, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(disk, 8<<30); err != nil {
		return err
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-d", root, disk).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w\n%s", err, tail(out))
	}
	return os.RemoveAll(root)
}
