// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// layers say what packages may import besides the standard library, by their paths below
// the module; the longest prefix counts. .golangci.yml has the same in depguard's words.
var layers = []struct {
	of string
	// ours are the packages of this module that may be imported, as prefixes; one that
	// ends with "/" stands for what is below it alone.
	ours []string
	// theirs are those of other modules, as prefixes.
	theirs []string
}{
	{"cmd", []string{"shim"}, nil},
	{"shim", []string{"shim", "runtime", "uidmap"}, []string{
		"github.com/containerd/", "google.golang.org/", "github.com/opencontainers/", "github.com/moby/",
		"golang.org/x/sys/unix", "github.com/pelletier/go-toml/v2",
	}},
	// A command works on a host without containerd, and with a shim of any version.
	{"shim/admin", []string{"shim/version", "runtime", "uidmap"}, []string{"golang.org/x/sys/unix", "github.com/opencontainers/runtime-spec/"}},
	// What -info answers depends on no container and on no configuration.
	{"shim/features", []string{"shim/version", "runtime/feature"}, []string{
		"github.com/containerd/containerd/api/types", "google.golang.org/protobuf/", "github.com/opencontainers/runtime-spec/",
	}},
	// The figures are the cgroup's, so that they can be compared with those of others.
	{"shim/metrics", []string{"runtime/cgroup"}, []string{
		"github.com/containerd/cgroups/v3/", "google.golang.org/protobuf/", "golang.org/x/sys/unix",
	}},
	// Every package may import it.
	{"shim/version", nil, nil},
	{"runtime", []string{"runtime/", "uidmap"}, []string{
		"github.com/opencontainers/runtime-spec/", "golang.org/x/sys/unix", "github.com/pelletier/go-toml/v2",
	}},
	{"runtime/cgroup", []string{"runtime/"}, []string{
		"github.com/opencontainers/runtime-spec/", "golang.org/x/sys/unix",
		"github.com/coreos/go-systemd/v22/dbus", "github.com/godbus/dbus/v5",
	}},
	{"runtime/rootfs", []string{"runtime/fill", "runtime/plan", "runtime/sys", "runtime/fsutil", "runtime/whiteout", "uidmap"}, []string{"golang.org/x/sys/unix"}},
	{"runtime/program", []string{"runtime/sys", "runtime/syscalls"}, []string{"golang.org/x/sys/unix"}},
	{"runtime/sys", nil, []string{"golang.org/x/sys/unix"}},
	{"uidmap", []string{"runtime/sys"}, []string{"golang.org/x/sys/unix"}},
}

// TestImports: imports go down only. uidmap knows nothing of containers, runtime nothing of
// containerd, and its rooms nothing of the package above them.
func TestImports(t *testing.T) {
	const module = "sysbox/"
	seen := map[string]bool{}
	sources(t, func(name string, text []byte) {
		dir, _ := strings.CutPrefix(filepath.ToSlash(filepath.Dir(name)), "../")
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(dir, "tests") || notBuilt(text) {
			return
		}
		layer := -1
		for i, l := range layers {
			if under(dir, l.of) && (layer < 0 || len(l.of) > len(layers[layer].of)) {
				layer = i
			}
		}
		if layer < 0 {
			t.Errorf("%s: no layer has it; add one", name)
			return
		}
		l := layers[layer]
		seen[l.of] = true
		f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(path, "/")
			ours, isOurs := strings.CutPrefix(path, module)
			switch {
			case isOurs && !allowed(ours, l.ours, under), !isOurs && strings.Contains(first, ".") && !allowed(path, l.theirs, strings.HasPrefix):
				t.Errorf("%s imports %s, which %s may not", name, path, l.of)
			}
		}
	})
	for _, l := range layers {
		if !seen[l.of] {
			t.Errorf("no file is of the layer %s", l.of)
		}
	}
}

// under reports whether a package is dir or below it; below alone where dir ends with "/".
func under(pkg, dir string) bool {
	if below, ok := strings.CutSuffix(dir, "/"); ok {
		return strings.HasPrefix(pkg, below+"/")
	}
	return pkg == dir || strings.HasPrefix(pkg, dir+"/")
}

func allowed(path string, list []string, match func(path, entry string) bool) bool {
	for _, entry := range list {
		if match(path, entry) {
			return true
		}
	}
	return false
}
