package bundle

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// maxConfig bounds config.json. CRI's largest are a few hundred kilobytes.
const maxConfig = 16 << 20

// groupAnnotations name the pod of a container, in the order in which they are
// looked at. Containers of a pod share its range of ids, so those that CRI and CRI-O
// set themselves come before the generic one of containerd, which a pod's author may
// be allowed to set: it must not lead into another's pod.
var groupAnnotations = []string{
	"io.kubernetes.cri.sandbox-id",
	"io.kubernetes.cri-o.SandboxID",
	"io.containerd.runc.v2.group",
}

// Group returns the name under which containers share a shim: an annotation
// of config.json, else id. With sandboxer = "shim" there is no config.json.
func Group(dir, id string) (string, error) {
	path := filepath.Join(dir, Config)
	b, err := readSmall(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return "", err
	}
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(b, &spec); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	for _, key := range groupAnnotations {
		if v := spec.Annotations[key]; v != "" {
			return safeName(v), nil
		}
	}
	return id, nil
}

// safeName keeps a name that can be a file's as it is, and makes one of any
// other: annotations are not the admin's, and state is kept under the name.
func safeName(s string) string {
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	if len(s) <= 128 && s != "." && s != ".." && strings.Trim(s, safe) == "" {
		return s
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(s)))
}
