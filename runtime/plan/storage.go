package plan

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// storageFolders cannot live on overlayfs: container engines mount overlays on
// them. containerd gets its whole root, as its metadata and its snapshots must
// not part.
var storageFolders = []Storage{
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
	for _, s := range storageFolders {
		if !p.coveredBySpec(s.Path) {
			p.Storage = append(p.Storage, s)
		}
	}
}

// DockerConfig is where an image has the configuration of a Docker in it.
const DockerConfig = "/etc/docker/daemon.json"

// AddDockerRoot gives storage to the data-root that an image's DockerConfig, whose
// text is given, names. The plan is as it was after an error, which says what of the
// configuration cannot be honoured.
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
			return fmt.Errorf("no storage for the data-root of %s: %s, which has storage of its own, lies below %s; give a folder of Docker's own", DockerConfig, s.Path, dir)
		}
	}
	p.Storage = append(p.Storage, Storage{Path: dir, Mode: 0o710})
	return nil
}

func dockerRoot(text []byte) (string, error) {
	var config map[string]json.RawMessage
	if err := json.Unmarshal(text, &config); err != nil {
		return "", fmt.Errorf("it is no JSON object: %w", err)
	}
	if config["data-root"] == nil {
		return "", nil
	}
	var dir string
	if err := json.Unmarshal(config["data-root"], &dir); err != nil {
		return "", fmt.Errorf("it is no string: %w", err)
	}
	dir = strings.TrimRight(dir, "/")
	switch {
	case dir == "" || !path.IsAbs(dir) || path.Clean(dir) != dir || strings.ContainsRune(dir, 0) || len(dir) >= unix.PathMax:
		return "", fmt.Errorf("%.100q is no clean absolute path below the root; give one such as /data/docker", dir)
	case BelongsToSystem(dir):
		return "", fmt.Errorf("%q belongs to the system; give a folder of Docker's own such as /data/docker", dir)
	}
	return dir, nil
}

// BelongsToSystem tells of folders that are no place for storage, neither by name nor where a
// link of the image's leads to one: what lies there is more than an engine's own, and would
// stay writable where the root is not. An absolute path, cleaned.
func BelongsToSystem(dir string) bool {
	return underAny(canonical(dir), "/proc", "/sys", "/dev", "/run") || slices.Contains(systemFolders, canonical(dir))
}

// systemFolders are more than an engine's own.
var systemFolders = []string{
	"/", "/bin", "/boot", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/root", "/sbin", "/tmp",
	"/usr", "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/local", "/usr/sbin", "/usr/share",
	"/var", "/var/lib", "/var/tmp",
}
