// SPDX-License-Identifier: Apache-2.0

package images

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"sysbox/tests/peers"
)

// versions are the lines "package version" of the named packages, as the suite has them
// now. Its index of some megabytes is read again only after a change.
func versions(suite string, packages []string) (string, error) {
	from, err := mirror()
	if err != nil {
		return "", err
	}
	const index = "main/binary-amd64/Packages.xz"
	dists := strings.TrimSuffix(from, "/") + "/dists/" + suite + "/"
	release, err := get(dists + "Release")
	if err != nil {
		return "", err
	}
	sum := regexp.MustCompile(`(?m)^ ([0-9a-f]{64}) +\d+ ` + index + `$`).FindSubmatch(release)
	if sum == nil {
		return "", fmt.Errorf("%sRelease names no %s", dists, index)
	}
	dir, err := peers.Once(fmt.Sprintf("index-%s-%s", suite, sum[1][:12]), func(dir string) error {
		packed, err := get(dists + index)
		if err != nil {
			return err
		}
		cmd := exec.Command("xz", "-dc")
		cmd.Stdin = bytes.NewReader(packed)
		text, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("xz: %w; install xz-utils", err)
		}
		var b strings.Builder
		name := ""
		for line := range strings.Lines(string(text)) {
			if n, ok := strings.CutPrefix(line, "Package: "); ok {
				name = strings.TrimSpace(n)
			} else if v, ok := strings.CutPrefix(line, "Version: "); ok {
				b.WriteString(name + " " + v)
			}
		}
		return os.WriteFile(filepath.Join(dir, "versions"), []byte(b.String()), 0o644)
	})
	if err != nil {
		return "", err
	}
	all, err := os.ReadFile(filepath.Join(dir, "versions"))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(string(all)) {
		if name, _, _ := strings.Cut(line, " "); slices.Contains(packages, name) {
			b.WriteString(line)
		}
	}
	return b.String(), nil
}

func get(url string) ([]byte, error) {
	client := http.Client{Timeout: 2 * time.Minute}
	r, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, r.Status)
	}
	return io.ReadAll(r.Body)
}
