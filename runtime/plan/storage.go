// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// storageDirs cannot be on overlayfs: container engines mount overlays on
// them. containerd gets its whole root directory, since its metadata and its snapshots
// must stay together.
var storageDirs = []Storage{
	{"/var/lib/docker", 0o710},
	{"/var/lib/containerd", 0o711},
	{"/var/lib/containers", 0o755},
	{"/var/lib/kubelet", 0o750},
	{"/var/lib/k0s", 0o755},
	{"/var/lib/rancher/k3s", 0o755},
	{"/var/lib/rancher/rke2", 0o755},
	{"/var/lib/buildkit", 0o710},
}

func storage(_ *rule, _ Input, p *Plan) {
	for _, s := range storageDirs {
		if !p.coveredBySpec(s.Path) {
			p.Storage = append(p.Storage, s)
		}
	}
}

// DockerConfig is where an image configures the Docker inside it.
const DockerConfig = "/etc/docker/daemon.json"

// AddDockerRoot adds storage for the data-root that DockerConfig names; text is the content
// of that file. On an error, which says what in the configuration cannot be honoured, the plan
// does not change.
func (p *Plan) AddDockerRoot(text []byte) error {
	dir, err := dockerRoot(text)
	if err != nil {
		return fmt.Errorf("no storage for the data-root of %s: %w", DockerConfig, err)
	}
	if dir == "" || p.coveredBySpec(dir) || slices.ContainsFunc(p.Storage, func(s Storage) bool { return under(dir, s.Path) }) {
		return nil
	}
	for _, s := range p.Storage {
		if under(s.Path, dir) {
			return fmt.Errorf("no storage for the data-root of %s: %s, which has its own storage, lies below %s; use a directory that only Docker uses", DockerConfig, s.Path, dir)
		}
	}
	p.Storage = append(p.Storage, Storage{Path: dir, Mode: 0o710})
	return nil
}

func dockerRoot(text []byte) (string, error) {
	var config map[string]json.RawMessage
	if err := json.Unmarshal(text, &config); err != nil {
		return "", fmt.Errorf("it is not a JSON object: %w", err)
	}
	if config["data-root"] == nil {
		return "", nil
	}
	var dir string
	if err := json.Unmarshal(config["data-root"], &dir); err != nil {
		return "", fmt.Errorf("it is not a string: %w", err)
	}
	dir = strings.TrimRight(dir, "/")
	switch {
	case dir == "" || !path.IsAbs(dir) || path.Clean(dir) != dir || strings.ContainsRune(dir, 0) || len(dir) >= unix.PathMax:
		return "", fmt.Errorf("%.100q must be a clean absolute path below the root, such as /data/docker", dir)
	case BelongsToSystem(dir):
		return "", fmt.Errorf("%q is a system directory; use one that only Docker uses, such as /data/docker", dir)
	}
	return dir, nil
}

// BelongsToSystem reports whether dir, an absolute clean path, is a directory that must not
// become storage, directly or through a link of the image: it holds more than the data of one
// engine, and would stay writable where the root is read-only.
func BelongsToSystem(dir string) bool {
	return underAny(canonical(dir), "/proc", "/sys", "/dev", "/run") || slices.Contains(systemDirs, canonical(dir))
}

// systemDirs hold more than the data of one engine.
var systemDirs = []string{
	"/", "/bin", "/boot", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/root", "/sbin", "/tmp",
	"/usr", "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/local", "/usr/sbin", "/usr/share",
	"/var", "/var/lib", "/var/tmp",
}
