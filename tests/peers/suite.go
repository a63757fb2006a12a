// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// image is the name of an image with its registry, in Go source. The registry is a
// domain, and what follows has a tag or a digest.
var image = regexp.MustCompile(`"((?:[a-z0-9-]+\.)+[a-z]+)(/[a-z0-9./-]+)(:[0-9][^"]*|@sha256:[0-9a-f]{64})"`)

// Suite is a test package of containerd's.
type Suite struct {
	Version string
	Package string   // its folder
	Needs   []string // folders of further sources that name images
}

// Client is the suite of the client library, CRI that of kubelet's interface.
var (
	Client = Suite{Newest, "integration/client", []string{"integration/images"}}
	CRI    = Suite{OldStart, "integration", nil} // images lie below it
)

// Build builds the suite and returns its working folder, in which it is suite.test.
// Images come from the registry at the given address in the place of the public ones,
// and the one that is asked for by its digest has the given digest; this is all that is
// changed.
func (s Suite) Build(registry, digest string) (string, error) {
	module := "github.com/containerd/containerd@v" + s.Version
	if !strings.HasPrefix(s.Version, "1.") {
		module = "github.com/containerd/containerd/v2@v" + s.Version
	}
	hosts := map[string]bool{}
	rename := func(m []byte) []byte {
		f := image.FindSubmatch(m)
		name := string(f[3])
		switch {
		case strings.HasSuffix(string(f[1]), ".test"): // a name that nobody has (RFC 2606), of an archive
			return m
		case name[0] == '@':
			name = "@" + digest
		}
		hosts[string(f[1])] = true
		return []byte(`"` + registry + string(f[2]) + name + `"`)
	}
	key := sha256.Sum256([]byte(registry + digest + s.Package + "3"))
	return Once(fmt.Sprintf("suite-%s-%x", s.Version, key[:6]), func(dir string) error {
		return inCopy(module, func(src string) error {
			folders := append([]string{s.Package}, s.Needs...)
			err := eachSource(src, folders, func(name string, text []byte) error {
				return os.WriteFile(name, image.ReplaceAllFunc(text, rename), 0o644)
			})
			if err == nil { // where a name is put together
				err = eachSource(src, folders, func(name string, text []byte) error {
					for host := range hosts {
						text = bytes.ReplaceAll(text, []byte(`"`+host+`"`), []byte(`"`+registry+`"`))
					}
					return os.WriteFile(name, text, 0o644)
				})
			}
			data := filepath.Join(src, s.Package, "testdata")
			if _, e := os.Stat(data); err == nil && e == nil {
				err = os.CopyFS(filepath.Join(dir, "testdata"), os.DirFS(data))
			}
			if err != nil {
				return err
			}
			return goIn(src, "test", "-c", "-mod=mod", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "suite.test"), "./"+s.Package)
		})
	})
}

// eachSource calls f with the sources for Linux in folders of src.
func eachSource(src string, folders []string, f func(name string, text []byte) error) error {
	for _, dir := range folders {
		err := filepath.WalkDir(filepath.Join(src, dir), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(name) != ".go" || strings.Contains(name, "_windows") {
				return err
			}
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			return f(name, text)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
