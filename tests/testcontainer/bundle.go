// SPDX-License-Identifier: Apache-2.0

package testcontainer

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Spec is what callers ask for by default: five new namespaces, the usual mounts, masked and
// read-only paths. The process runs args as root without capabilities, PATH is /bin, and the
// root is the bundle's folder "rootfs".
func Spec(cgroup string, args ...string) *specs.Spec {
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}, Capabilities: &specs.LinuxCapabilities{}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		},
		Hostname: "box",
		Linux: &specs.Linux{
			CgroupsPath: cgroup,
			Namespaces: []specs.LinuxNamespace{
				{Type: "pid"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}, {Type: "network"},
			},
			MaskedPaths:   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// applets are the commands that Busybox links.
var applets = []string{
	"sh", "cat", "id", "ls", "sleep", "mount", "umount", "stat", "env", "hostname", "touch", "ps", "echo", "readlink", "unshare", "stty",
	"tty", "kill", "mknod", "grep", "head", "dd", "true", "false", "chown", "mkdir",
}

// bundles counts them, for their cgroups' names.
var bundles atomic.Int32

// Busybox makes a bundle with [Spec], which change may change (nil: it does not), whose root
// has busybox and nothing else. Its cgroup is below Cgroup.
func Busybox(t testing.TB, change func(*specs.Spec), args ...string) string {
	t.Helper()
	bundle := t.TempDir()
	root := filepath.Join(bundle, "rootfs")
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Fatalf("install busybox-static: %v", err)
	}
	Copy(t, "/bin/busybox", filepath.Join(root, "bin/busybox"))
	for _, a := range applets {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
	s := Spec(fmt.Sprint(Cgroup(), bundles.Add(1)), args...)
	if change != nil {
		change(s)
	}
	j, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"), 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(bundle, "config.json"), j, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

// Cgroup is the path below which this process's containers have their cgroups; it ends with a
// slash, and leak.Main looks for it.
func Cgroup() string { return fmt.Sprintf("/sysbox-test-%d/", os.Getpid()) }

// Copy copies a file as an executable, and makes the folders that lead to it.
func Copy(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Libraries adds to a container's root what this test's binary needs to run there: nothing,
// unless it was built with cgo.
func Libraries(t testing.TB, root string) {
	t.Helper()
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil || len(libraries) == 0 {
		return
	}
	interp, err := f.Section(".interp").Data()
	if err != nil {
		t.Fatal(err)
	}
	loader := strings.TrimRight(string(interp), "\x00")
	Copy(t, loader, filepath.Join(root, loader))
	for _, lib := range libraries {
		found, _ := filepath.Glob("/lib/*-linux-gnu/" + lib)
		if len(found) != 1 {
			t.Fatalf("this test's binary needs %s, found %q; build it with CGO_ENABLED=0", lib, found)
		}
		Copy(t, found[0], filepath.Join(root, found[0]))
	}
}
