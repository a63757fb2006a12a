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
	name string
	mode int64
	data []byte
	link string
}

func layer(files ...file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg}
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
		{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/root:/bin/sh\nsys:x:3:3:sys:/dev:/bin/false\nwww-data:x:33:33:www-data:/var:/bin/false\nbackup:x:34:34:backup:/var:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n")},
		{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\ndaemon:x:1:\nsys:x:3:\nwww-data:x:33:\nbackup:x:34:\nusers:x:100:\nnogroup:x:65534:\n")},
	}
	for a := range strings.FieldsSeq(string(list)) {
		if a != "busybox" && a != "nc" {
			files = append(files, file{name: "bin/" + a, mode: 0o777, link: "busybox"})
		}
	}
	return layer(files...)
}

// images fills a registry with stand-ins for the images that the suite asks for, and
// returns the digest of the one that it asks for by digest.
func images(r *registry) (digest.Digest, error) {
	base, err := busybox()
	if err != nil {
		return "", err
	}
	more, err := layer(file{name: "usr/bin/", mode: 0o755}, file{name: "usr/bin/passwd", mode: 0o4755, data: []byte("#!/bin/sh\n")},
		file{name: "bin/bash", mode: 0o755, data: []byte("#!/bin/sh\nexec sh \"$@\"\n")})
	if err != nil {
		return "", err
	}
	volume, err := layer(file{name: "test_dir/", mode: 0o755}, file{name: "test_dir/test_file", mode: 0o644, data: []byte("test_content\n")})
	if err != nil {
		return "", err
	}
	config := ocispec.ImageConfig{Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, Cmd: []string{"sh"}}
	// Each image differs from the others in each of its layers.
	for name, layers := range map[string][][]byte{
		"containerd/busybox:1.36":         {base},
		"containerd/volume-copy-up:2.2":   {base, volume},
		"containerd/volume-ownership:2.1": {base, more},
		"e2e-test-images/busybox:1.29-2":  nil,
		"pause:3.10.2":                    nil,
		"pause:3.6":                       nil,
	} {
		var list []ocispec.Descriptor
		for _, p := range []ocispec.Platform{
			{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}, {OS: "linux", Architecture: "s390x"},
		} {
			mark, err := layer(file{name: "etc/", mode: 0o755}, file{name: "etc/image", mode: 0o644, data: []byte(name + " for " + p.Architecture + "\n")})
			if err != nil {
				return "", err
			}
			all := [][]byte{mark}
			if p.Architecture == "amd64" {
				all = append(append([][]byte{}, layers...), mark)
			}
			d, err := r.image(p, config, all...)
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
