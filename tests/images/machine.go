package images

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sysbox/tests/peers"
)

// Kernels that a machine can be had with, and the Debian suites that have them.
var Kernels = map[string]string{"6.1": "bookworm", "6.12": "trixie", "newest": "sid"}

// machine are the packages of a machine.
var machine = []string{
	"systemd", "systemd-sysv", "dbus", "libpam-systemd", "kmod", "initramfs-tools",
	"apparmor", "iproute2", "iptables", "procps", "util-linux", "busybox-static", "strace", "nfs-common", "nfs-kernel-server",
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

// Machine makes the disk of a machine that runs a Debian with systemd and the given
// kernel (a key of [Kernels]), and returns the folder with disk.img, vmlinuz and initrd.
func Machine(kernel string) (string, error) {
	suite, ok := Kernels[kernel]
	if !ok {
		return "", fmt.Errorf("kernel %q is none of 6.1, 6.12, newest", kernel)
	}
	key := fmt.Sprintf("%x", sha256.Sum256([]byte(suite+unit+strings.Join(machine, ",")+"2")))
	return peers.Once("machine-"+kernel+"-"+key[:12], func(dir string) error {
		root := filepath.Join(dir, "root")
		if err := (debian{suite: suite, packages: machine}).bootstrap(root); err != nil {
			return err
		}
		files := map[string]string{
			"etc/systemd/system/job.service":  unit,
			"etc/modules-load.d/tests.conf":   "9p\n9pnet_virtio\noverlay\nfuse\ntun\nbinfmt_misc\nbridge\nveth\n",
			"etc/initramfs-tools/modules":     "virtio_pci\nvirtio_blk\next4\n",
			"etc/initramfs-tools/conf.d/list": "MODULES=list\n",
			"etc/hostname":                    "machine\n",
			"etc/fstab":                       "",
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
		for _, args := range [][]string{
			// After initramfs-tools, of which debootstrap would take dracut beside.
			{"apt-get", "install", "-y", "-qq", "--no-install-recommends", "linux-image-amd64"},
			{"systemctl", "mask", "serial-getty@ttyS0.service", "getty@tty1.service", "apt-daily.timer", "apt-daily-upgrade.timer", "nfs-server.service", "rpcbind.service", "rpcbind.socket"},
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
	})
}
