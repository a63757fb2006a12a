// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
)

// TestDeepFolders: folders in a container's storage that are nested deeper than the
// shim can have files open are removed with the rest.
func TestDeepFolders(t *testing.T) {
	w, text := testcontainer.Pipe(t)
	bundle := deepFoldersInside.Bundle(t, nil)
	for _, d := range []string{testcontainer.Docker, "/run"} {
		if err := os.MkdirAll(bundle+"/rootfs"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}, Rootfs: []runtime.RootfsMount{{
		Type: "overlay", Source: "overlay", Options: []string{"index=off", "lowerdir=" + bundle + "/rootfs:" + t.TempDir()},
	}}}
	c := testcontainer.Create(t, testcontainer.NewPod(t), r)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := testcontainer.Wait(t, c.Init()); exit.Status != 0 {
		t.Error(text())
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: deep / 2, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	storage := c.Record(t).Storage
	err := c.Delete(t.Context())
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); e != nil {
		t.Error(e)
	}
	if err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(storage); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the storage is there still: %v", err)
	}
}

var deepFoldersInside = testcontainer.Inside("deep folders", func() error {
	if err := os.Mkdir("/var/lib/docker/side", 0o700); err != nil {
		return err
	}
	if err := os.WriteFile("/var/lib/docker/side/file", nil, 0o600); err != nil {
		return err
	}
	return testcontainer.Deep("/var/lib/docker", "d", deep)
})

// deep is how many folders are nested: more than TestDeepFolders lets be open.
const deep = 3000
