// SPDX-License-Identifier: Apache-2.0

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

// maxConfig bounds config.json. The largest from CRI are a few hundred kilobytes.
const maxConfig = 16 << 20

// groupAnnotations name the pod of a container, in the order in which Group reads
// them. The containers of a pod share its range of ids, so the annotations that CRI and
// CRI-O set themselves come before containerd's generic one: the author of a pod may be
// allowed to set that, and it must not lead into another pod.
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

// safeName returns a name unchanged if it is safe as a file name, otherwise its
// hash: users can set annotations, and state is kept under the name.
func safeName(s string) string {
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	if len(s) <= 128 && s != "." && s != ".." && strings.Trim(s, safe) == "" {
		return s
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(s)))
}
