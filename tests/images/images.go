// SPDX-License-Identifier: Apache-2.0

// Package images makes the images that the tests run, from Debian's packages,
// as archives in the form of `docker save`: there is no registry.
//
// What does not belong here: loading them into a containerd (package harness).
package images

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"sysbox/tests/peers"
)

// Names of the images.
const (
	BusyboxName = "docker.io/library/busybox:test"
	PauseName   = "docker.io/library/pause:test"
	DebianName  = "docker.io/library/debian:test"
	NFSName     = "docker.io/library/nfs:test"
	DisksName   = "docker.io/library/disks"
	InnerName   = "docker.io/library/inner:test"
)

// Busybox makes an image of the static busybox with all its applets and
// returns the archive's path.
func Busybox() (string, error) { return busybox("image-busybox-1", BusyboxName, "sh") }

// Pause is the same with a command that waits, for the sandboxes of pods.
func Pause() (string, error) { return busybox("image-pause-1", PauseName, "sleep", "1000000") }

func busybox(file, name string, cmd ...string) (string, error) {
	dir, err := peers.Once(file, func(dir string) error {
		root := filepath.Join(dir, "root")
		for _, d := range []string{"bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"} {
			if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
				return err
			}
		}
		binary, err := os.ReadFile("/bin/busybox")
		if err != nil {
			return fmt.Errorf("%w; install busybox-static", err)
		}
		if err := os.WriteFile(filepath.Join(root, "bin/busybox"), binary, 0o755); err != nil {
			return err
		}
		applets, err := exec.Command("/bin/busybox", "--list").Output()
		if err != nil {
			return err
		}
		for a := range strings.FieldsSeq(string(applets)) {
			if a != "busybox" {
				if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
					return err
				}
			}
		}
		files := map[string]string{
			"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
			"etc/group":  "root:x:0:\ntty:x:5:\nuser:x:1000:\n",
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
				return err
			}
		}
		if err := save(filepath.Join(dir, "image.tar"), root, name, cmd, "/bin"); err != nil {
			return err
		}
		return os.RemoveAll(root)
	})
	return filepath.Join(dir, "image.tar"), err
}

// save writes a folder as an image of one layer.
func save(name, root, ref string, cmd []string, path string) error {
	layer := name + ".layer"
	defer os.Remove(layer)
	if out, err := exec.Command("tar", "--sort=name", "--numeric-owner", "-C", root, "-cf", layer, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w\n%s", err, out)
	}
	f, err := os.Open(layer)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Env": []string{"PATH=" + path}, "Cmd": cmd},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sum.Sum(nil))}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{ref}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	for _, e := range []struct {
		name string
		data []byte
	}{{"config.json", config}, {"manifest.json", manifest}} {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.data))}); err != nil {
			return err
		}
		if _, err := w.Write(e.data); err != nil {
			return err
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: "layer.tar", Mode: 0o644, Size: size}); err != nil {
		return err
	}
	if _, err := io.Copy(w, f); err != nil {
		return err
	}
	return w.Close()
}

// BusyboxRoot is the busybox image as a folder, which is not to be written to.
func BusyboxRoot() (string, error) {
	archive, err := Busybox()
	if err != nil {
		return "", err
	}
	return peers.Once("root-busybox-1", func(dir string) error {
		layers := exec.Command("tar", "-xOf", archive, "layer.tar")
		unpack := exec.Command("tar", "-C", dir, "-xf", "-")
		if unpack.Stdin, err = layers.StdoutPipe(); err != nil {
			return err
		}
		if err := unpack.Start(); err != nil {
			return err
		}
		return errors.Join(layers.Run(), unpack.Wait(), os.Chmod(dir, 0o755))
	})
}
