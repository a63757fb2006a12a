// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"runtime"

	containerd "github.com/containerd/containerd/v2/client"
)

const imageName = "docker.io/library/bench:latest"

// loadImage makes an image of a static busybox and nothing else: what is
// measured is the runtime, not the image.
func (d *daemon) loadImage(ctx context.Context) error {
	archive, err := busyboxArchive()
	if err != nil {
		return err
	}
	images, err := d.client.Import(ctx, bytes.NewReader(archive))
	if err != nil {
		return err
	}
	if len(images) != 1 {
		return fmt.Errorf("the archive has %d images, want 1", len(images))
	}
	d.image = containerd.NewImage(d.client, images[0])
	return d.image.Unpack(ctx, snapshotter)
}

// busyboxArchive is an archive as `docker save` makes them.
func busyboxArchive() ([]byte, error) {
	path, err := lookPath(os.Getenv("PATH"), "busybox")
	if err != nil {
		return nil, fmt.Errorf("no busybox in PATH; install the package busybox-static")
	}
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s needs shared libraries, which the image has not; install the package busybox-static", path)
		}
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	layer := archive(
		entry{name: "bin/", mode: 0o755},
		entry{name: "bin/busybox", mode: 0o755, data: binary},
		entry{name: "bin/sleep", link: "busybox"},
		entry{name: "bin/true", link: "busybox"},
		entry{name: "etc/", mode: 0o755},
		entry{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/:/bin/sh\n")},
	)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Env": []string{"PATH=/bin"}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{imageName}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return nil, err
	}
	return archive(
		entry{name: "layer.tar", mode: 0o644, data: layer},
		entry{name: "config.json", mode: 0o644, data: config},
		entry{name: "manifest.json", mode: 0o644, data: manifest},
	), nil
}

// entry is a folder if its name ends in a slash, a symlink if it has a link.
type entry struct {
	name, link string
	mode       int64
	data       []byte
}

// archive writes to memory, which does not fail.
func archive(entries ...entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Mode: e.mode, Size: int64(len(e.data)), Typeflag: tar.TypeReg}
		switch {
		case e.link != "":
			h.Typeflag = tar.TypeSymlink
		case e.name[len(e.name)-1] == '/':
			h.Typeflag = tar.TypeDir
		}
		_ = w.WriteHeader(h)
		_, _ = w.Write(e.data)
	}
	_ = w.Close()
	return b.Bytes()
}
