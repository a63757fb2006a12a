// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"testing"
)

// TestDockerRoot: the data-root of an image's daemon.json gets storage, unless the spec
// mounts something there, or it is nothing that could be Docker's own.
func TestDockerRoot(t *testing.T) {
	for _, c := range []struct{ text, added, err string }{
		{`{"data-root": "/data/docker/"}`, "/data/docker", ""},
		{`{"data-root": "/docker", "debug": true}`, "/docker", ""},
		{`{}`, "", ""},
		{`{"data-root": "/var/lib/docker"}`, "", ""},
		{`{"data-root": "/var/lib/containerd/x"}`, "", ""},
		{`{"data-root": "/volume/docker"}`, "", ""},
		{``, "", "not a JSON object"},
		{`[]`, "", "not a JSON object"},
		{`{"data-root": "/data"} x`, "", "not a JSON object"},
		{`{"data-root": 7}`, "", "not a string"},
		{`{"data-root": "data"}`, "", "such as /data/docker"},
		{`{"data-root": "/a/../../etc"}`, "", "such as /data/docker"},
		{`{"data-root": "/"}`, "", "such as /data/docker"},
		{`{"data-root": "/a\u0000b"}`, "", "such as /data/docker"},
		{`{"data-root": "/proc/1/root"}`, "", "is a system directory"},
		{`{"data-root": "/var/run/docker"}`, "", "is a system directory"},
		{`{"data-root": "/usr"}`, "", "is a system directory"},
		{`{"data-root": "/var/lib/rancher"}`, "", "/var/lib/rancher/k3s"},
	} {
		in := testInput(t, "docker")
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		p.Mounts = append(p.Mounts, Mount{Destination: "/volume", Type: "bind", Origin: "spec"})
		before := slices.Clone(p.Storage)
		err = p.AddDockerRoot([]byte(c.text))
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n")) || c.err == "" && err != nil {
			t.Errorf("%s: error %v, want %q", c.text, err, c.err)
		}
		if c.added != "" {
			before = append(before, Storage{c.added, 0o710})
		}
		if !slices.Equal(p.Storage, before) {
			t.Errorf("%s: storage %v, want %v", c.text, p.Storage, before)
		}
	}
}

// FuzzDockerRoot: whatever the file has, storage is added for what it names only, and not
// in the system's places.
func FuzzDockerRoot(f *testing.F) {
	f.Add([]byte(`{"data-root": "/data/docker"}`))
	f.Add([]byte(`{"data-root": "/x", "data-root": "/proc/y/.."}`))
	f.Add([]byte(`{"Data-Root": "/x", "data-root": "/lib/../sys"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p := &Plan{Storage: slices.Clone(storageDirs)}
		err := p.AddDockerRoot(text)
		added := p.Storage[len(storageDirs):]
		if err != nil && (len(added) > 0 || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%q: %v, but added %v", text, err, added)
		}
		for _, s := range added {
			var config struct {
				Root string `json:"data-root"`
			}
			_ = json.Unmarshal(text, &config)
			if s.Path == "/" || path.Clean(s.Path) != s.Path || !path.IsAbs(s.Path) || underAny(s.Path, "/proc", "/sys", "/dev", "/run", "/var/run") ||
				strings.Contains("/etc /usr /var /var/lib", s.Path) || !strings.Contains(strings.ToLower(string(text)), "data-root") {
				t.Errorf("%q: added %q", text, s.Path)
			}
		}
	})
}
