// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
)

// WithEnv writes an image of [Busybox] under another name, with these variables besides.
func WithEnv(file, ref string, env ...string) error {
	archive, err := Busybox()
	if err != nil {
		return err
	}
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	r, w := tar.NewReader(in), tar.NewWriter(out)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return w.Close()
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err == nil {
			data, err = changed(h.Name, data, ref, env)
		}
		if err != nil {
			return err
		}
		h.Size = int64(len(data))
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
}

// changed is a file of the archive of an image with another name and more variables.
func changed(name string, data []byte, ref string, env []string) ([]byte, error) {
	switch name {
	case "config.json":
		var c map[string]any
		if err := json.Unmarshal(data, &c); err != nil {
			return nil, err
		}
		config, ok := c["config"].(map[string]any)
		if !ok {
			return nil, errors.New("the image has no configuration")
		}
		old, _ := config["Env"].([]any)
		for _, e := range env {
			old = append(old, e)
		}
		config["Env"] = old
		return json.Marshal(c)
	case "manifest.json":
		var m []map[string]any
		if err := json.Unmarshal(data, &m); err != nil || len(m) != 1 {
			return nil, errors.Join(err, errors.New("the archive is not of one image"))
		}
		m[0]["RepoTags"] = []string{ref}
		return json.Marshal(m)
	}
	return data, nil
}
