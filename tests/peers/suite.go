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

// ClientSuite builds the client test suite of containerd's newest version and returns its
// working folder, in which it is client.test. Images come from the registry at the given
// address in the place of the public ones, and the one that is asked for by its digest
// has the given digest; this is all that is changed.
func ClientSuite(registry, digest string) (string, error) {
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
	key := sha256.Sum256([]byte(registry + digest + "2"))
	return Once(fmt.Sprintf("suite-%s-%x", Newest, key[:6]), func(dir string) error {
		return inCopy("github.com/containerd/containerd/v2@v"+Newest, func(src string) error {
			err := eachSource(src, func(name string, text []byte) error {
				return os.WriteFile(name, image.ReplaceAllFunc(text, rename), 0o644)
			})
			if err == nil { // where a name is put together
				err = eachSource(src, func(name string, text []byte) error {
					for host := range hosts {
						text = bytes.ReplaceAll(text, []byte(`"`+host+`"`), []byte(`"`+registry+`"`))
					}
					return os.WriteFile(name, text, 0o644)
				})
			}
			if err == nil {
				err = os.CopyFS(filepath.Join(dir, "testdata"), os.DirFS(filepath.Join(src, "integration/client/testdata")))
			}
			if err != nil {
				return err
			}
			return goIn(src, "test", "-c", "-mod=mod", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "client.test"), "./integration/client")
		})
	})
}

// eachSource calls f with the suite's sources for Linux.
func eachSource(src string, f func(name string, text []byte) error) error {
	for _, dir := range []string{"integration/client", "integration/images"} {
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
