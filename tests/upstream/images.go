// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// file is an entry of a layer: a folder if its name ends with a slash.
type file struct {
	name  string
	mode  int64
	data  []byte
	link  string
	owner int
}

func layer(files ...file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg, Uid: f.owner, Gid: f.owner}
		switch {
		case f.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

// busybox is a root file system of Debian's static busybox, with what the suite wants of
// the images that it knows. nc is a script: pid 1 of a pid namespace ends by SIGTERM only
// if it asks for it, as the nc that the suite knows does.
func busybox() ([]byte, error) {
	binary, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, fmt.Errorf("%w; install busybox-static", err)
	}
	list, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return nil, err
	}
	files := []file{
		{name: "bin/", mode: 0o755},
		{name: "dev/", mode: 0o755},
		{name: "etc/", mode: 0o755},
		{name: "home/", mode: 0o755},
		{name: "proc/", mode: 0o755},
		{name: "root/", mode: 0o700},
		{name: "run/", mode: 0o755},
		{name: "sys/", mode: 0o755},
		{name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755},
		{name: "var/", mode: 0o755},
		{name: "bin/busybox", mode: 0o755, data: binary},
		{name: "bin/nc", mode: 0o755, data: []byte("#!/bin/sh\ntrap 'exit 143' TERM\nbusybox nc \"$@\" &\nwait $!\n")},
		{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nsys:x:3:3:sys:/dev:/bin/false\nwww-data:x:33:33:www-data:/var:/bin/false\nbackup:x:34:34:backup:/var:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n")},
		{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\ndaemon:x:1:\nsys:x:3:\nwheel:x:10:root\nwww-data:x:33:\nbackup:x:34:\nusers:x:100:\nnogroup:x:65534:\n")},
	}
	for a := range strings.FieldsSeq(string(list)) {
		if a != "busybox" && a != "nc" {
			files = append(files, file{name: "bin/" + a, mode: 0o777, link: "busybox"})
		}
	}
	return layer(files...)
}

// stand is what stands in for an image.
type stand struct {
	config ocispec.ImageConfig
	layers [][]byte
}

// stands are stand-ins for the images that the suites ask for.
func stands() (map[string]stand, error) {
	base, err := busybox()
	if err != nil {
		return nil, err
	}
	folder := file{name: "test_dir/", mode: 0o755}
	nobodys := file{name: "test_dir/", mode: 0o755, owner: 65534}
	var owned, copied, paused, hungry []byte
	for to, files := range map[*[]byte][]file{
		&owned: {
			nobodys,
			{name: "usr/bin/", mode: 0o755},
			{name: "usr/bin/passwd", mode: 0o4755, data: []byte("#!/bin/sh\n")},
			{name: "bin/bash", mode: 0o755, data: []byte("#!/bin/sh\nexec sh \"$@\"\n")},
		},
		&copied: {folder, {name: "test_dir/test_file", mode: 0o644, data: []byte("test_content\n")}},
		&paused: {{name: "pause", mode: 0o755, data: []byte("#!/bin/sh\ntrap 'exit 0' TERM INT\nwhile :; do sleep 1000000 & wait $!; done\n")}},
		&hungry: {
			{name: "usr/bin/", mode: 0o755},
			// It takes a little more than the 100 MiB that are asked for.
			{name: "usr/bin/stress", mode: 0o755, data: []byte("#!/bin/sh\n{ head -c 115343360 /dev/zero; sleep 30; } | tail -c 115343360 >/dev/null\n")},
		},
	} {
		if *to, err = layer(files...); err != nil {
			return nil, err
		}
	}
	shell := ocispec.ImageConfig{Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, Cmd: []string{"sh"}}
	volume, pause := shell, shell
	volume.Volumes = map[string]struct{}{"/test_dir": {}}
	pause.Cmd, pause.Entrypoint = nil, []string{"/pause"}
	return map[string]stand{
		"containerd/busybox:1.36":                {shell, [][]byte{base}},
		"containerd/alpine:3.14.0":               {shell, [][]byte{base}},
		"containerd/volume-copy-up:2.1":          {volume, [][]byte{base, copied}},
		"containerd/volume-copy-up:2.2":          {shell, [][]byte{base, copied}},
		"containerd/volume-ownership:2.1":        {volume, [][]byte{base, owned}},
		"e2e-test-images/busybox:1.29-2":         {shell, nil},
		"e2e-test-images/resource-consumer:1.10": {pause, [][]byte{base, paused, hungry}},
		"pause:3.10.2":                           {shell, nil},
		"pause:3.6":                              {shell, nil},
		"pause:3.8":                              {pause, [][]byte{base, paused}},
	}, nil
}

// images fills a registry with the stand-ins, and returns the digest of the one that the
// suites ask for by digest. Each image has a last layer of its own.
func images(r *registry) (digest.Digest, error) {
	all, err := stands()
	if err != nil {
		return "", err
	}
	for name, image := range all {
		var list []ocispec.Descriptor
		for _, p := range []ocispec.Platform{
			{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}, {OS: "linux", Architecture: "s390x"},
		} {
			mark, err := layer(file{name: "etc/", mode: 0o755}, file{name: "etc/image", mode: 0o644, data: []byte(name + " for " + p.Architecture + "\n")})
			if err != nil {
				return "", err
			}
			layers := [][]byte{mark}
			if p.Architecture == "amd64" {
				layers = append(append([][]byte{}, image.layers...), mark)
			}
			d, err := r.image(p, image.config, layers...)
			if err != nil {
				return "", err
			}
			list = append(list, d)
		}
		if err := r.index(name, list...); err != nil {
			return "", err
		}
	}
	return r.tags["containerd/busybox:1.36"], nil
}
