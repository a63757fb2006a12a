// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/tests/testcontainer"
)

// TestNothingRestsOnMasks: root of a container mounts a proc and a sysfs without the spec's
// masks. What the masks and read-only paths of today's callers cover it then can neither
// write nor read where that would tell of the host's secrets.
func TestNothingRestsOnMasks(t *testing.T) {
	t.Parallel()
	// Root's keyring is the machine's, not the run's: another run's key has another name.
	name := "sysbox-test-secret-" + rand.Text()
	key, err := unix.AddKey("user", name, []byte("x"), unix.KEY_SPEC_USER_KEYRING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.KeyctlInt(unix.KEYCTL_UNLINK, key, unix.KEY_SPEC_USER_KEYRING, 0, 0)
	list, err := os.ReadFile("/proc/keys")
	if err != nil || !bytes.Contains(list, []byte(name)) {
		t.Fatalf("the host's list does not have its key: %v", err)
	}
	out, status := withoutMasksInside.Run(t, nil)
	if status != 0 {
		t.Error(out)
	}
}

// unmasked are the paths that containerd, Docker and podman mask or make read-only, and
// all of sysfs. Those that this kernel does not have are skipped.
var unmasked = []string{
	"/p/acpi", "/p/asound", "/p/bus", "/p/fs", "/p/interrupts", "/p/irq", "/p/kallsyms", "/p/kcore", "/p/keys", "/p/kmsg", "/p/kpagecgroup", "/p/kpagecount",
	"/p/kpageflags", "/p/latency_stats", "/p/mtrr", "/p/sched_debug", "/p/scsi", "/p/slabinfo", "/p/sys", "/p/sysrq-trigger", "/p/timer_list", "/p/timer_stats",
	"/p/vmallocinfo", "/s",
}

// namespaced are the sysctls that are the container's own.
var namespaced = []string{
	"/p/sys/net/", "/p/sys/user/", "/p/sys/fs/mqueue/", "/p/sys/fs/binfmt_misc/", "/p/sys/kernel/msg", "/p/sys/kernel/sem", "/p/sys/kernel/shm", "/p/sys/kernel/auto_msgmni",
	"/p/sys/kernel/ns_last_pid", "/p/sys/kernel/pid_max", "/s/class/net/", "/s/devices/virtual/net/",
}

// secret are files that nobody but the host may read.
var secret = []string{
	"/p/kcore", "/p/kmsg", "/p/kpagecgroup", "/p/kpagecount", "/p/kpageflags", "/p/latency_stats", "/p/sched_debug", "/p/slabinfo", "/p/timer_list", "/p/timer_stats", "/p/vmallocinfo",
	"/s/firmware/acpi/tables/", "/s/firmware/dmi/tables/", "/s/firmware/efi/", "/s/devices/virtual/powercap/", "/s/kernel/debug/", "/s/kernel/tracing/", "/s/kernel/security/",
}

var withoutMasksInside = testcontainer.Inside("without masks", func() error {
	for dir, kind := range map[string]string{"/p": "proc", "/s": "sysfs"} {
		if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount(kind, dir, kind, 0, "")); err != nil {
			return err
		}
	}
	seen := 0
	var errs []error
	for _, top := range unmasked {
		_ = filepath.WalkDir(top, func(p string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			seen++
			within := func(list []string) bool {
				for _, x := range list {
					if strings.HasPrefix(p, x) {
						return true
					}
				}
				return false
			}
			// To open is enough to know: nothing is written.
			if opens(p, unix.O_WRONLY) && !within(namespaced) {
				errs = append(errs, fmt.Errorf("%s can be written", p))
			}
			if within(secret) && opens(p, unix.O_RDONLY) {
				errs = append(errs, fmt.Errorf("%s can be read", p))
			}
			return nil
		})
	}
	if seen < 1000 {
		errs = append(errs, fmt.Errorf("%d files were looked at", seen))
	}
	// What everybody may read tells only of the reader's.
	if b, err := os.ReadFile("/p/keys"); err != nil || bytes.Contains(b, []byte("sysbox-test-secret")) {
		errs = append(errs, fmt.Errorf("the host's keys: %s, %w", b, err))
	}
	b, err := os.ReadFile("/p/kallsyms")
	if err != nil {
		errs = append(errs, err)
	}
	for line := range bytes.Lines(b) {
		if address, _, _ := bytes.Cut(line, []byte(" ")); len(bytes.Trim(address, "0")) != 0 {
			errs = append(errs, fmt.Errorf("an address in the kernel: %s", line))
			break
		}
	}
	return errors.Join(errs...)
})

func opens(path string, flags int) bool {
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}
