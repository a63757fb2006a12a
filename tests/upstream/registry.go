// SPDX-License-Identifier: Apache-2.0

// Package upstream runs containerd's own client test suite with the shim as its runtime,
// and compares what each test says with what is expected of it.
//
// What does not belong here: tests of our own, and changes to containerd's.
package upstream

import (
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// registry is a read-only registry (the OCI distribution specification's "pull") in
// memory.
type registry struct {
	blobs map[digest.Digest]blob
	tags  map[string]digest.Digest // "repository:tag"
}

type blob struct {
	mediaType string
	data      []byte
}

func newRegistry() *registry {
	return &registry{map[digest.Digest]blob{}, map[string]digest.Digest{}}
}

// add stores a blob.
func (r *registry) add(mediaType string, data []byte) ocispec.Descriptor {
	d := digest.FromBytes(data)
	r.blobs[d] = blob{mediaType, data}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func (r *registry) addJSON(mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return r.add(mediaType, b), nil
}

// image stores an image of the given layers (tar archives) for a platform.
func (r *registry) image(p ocispec.Platform, config ocispec.ImageConfig, layers ...[]byte) (ocispec.Descriptor, error) {
	epoch := time.Unix(0, 0).UTC() // the same bytes each time
	c := ocispec.Image{Created: &epoch, Platform: p, Config: config, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		d := r.add(ocispec.MediaTypeImageLayer, l)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, d.Digest)
		m.Layers = append(m.Layers, d)
	}
	var err error
	if m.Config, err = r.addJSON(ocispec.MediaTypeImageConfig, c); err != nil {
		return ocispec.Descriptor{}, err
	}
	d, err := r.addJSON(ocispec.MediaTypeImageManifest, m)
	d.Platform = &p
	return d, err
}

// index stores an index of images under a name.
func (r *registry) index(name string, images ...ocispec.Descriptor) error {
	d, err := r.addJSON(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: images,
	})
	r.tags[name] = d.Digest
	return err
}

var route = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs)/([^/]+)$`)

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/v2/" {
		return
	}
	m := route.FindStringSubmatch(req.URL.Path)
	if m == nil {
		http.NotFound(w, req)
		return
	}
	d := digest.Digest(m[3])
	if !strings.Contains(m[3], ":") {
		d = r.tags[m[1]+":"+m[3]]
	}
	b, ok := r.blobs[d]
	if !ok {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", b.mediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(b.data))
}
