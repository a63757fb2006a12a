// SPDX-License-Identifier: Apache-2.0

package task

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// createOptions holds the options of Create.
type createOptions struct {
	uid, gid      int // of the pipes; 0: the runtime decides
	systemdCgroup *bool
	configPath    string
}

// readOptions accepts the three forms that callers send: nothing (ctr, CRI
// without a table), runc's options (CRI for pods with a user namespace), and
// generic options (Docker, CRI with a table).
func readOptions(a *anypb.Any) (o createOptions, err error) {
	if a == nil || a.GetTypeUrl() == "" && len(a.GetValue()) == 0 {
		return o, nil
	}
	var r options.Options
	var g runtimeoptions.Options
	switch a.MessageName() {
	case r.ProtoReflect().Descriptor().FullName():
		if err := proto.Unmarshal(a.GetValue(), &r); err != nil {
			return o, fmt.Errorf("options of type %s: %w: %w", a.GetTypeUrl(), err, errdefs.ErrInvalidArgument)
		}
		return fromRunc(&r)
	case g.ProtoReflect().Descriptor().FullName():
		if err := proto.Unmarshal(a.GetValue(), &g); err != nil {
			return o, fmt.Errorf("options of type %s: %w: %w", a.GetTypeUrl(), err, errdefs.ErrInvalidArgument)
		}
		return fromGeneric(&g)
	}
	return o, fmt.Errorf("options have the unknown type %q; use containerd.runc.v1.Options, runtimeoptions.v1.Options or none: %w", a.GetTypeUrl(), errdefs.ErrInvalidArgument)
}

func fromRunc(r *options.Options) (o createOptions, err error) {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"NoPivotRoot", r.GetNoPivotRoot()},
		{"BinaryName", r.GetBinaryName() != ""},
		{"Root", r.GetRoot() != ""},
	} {
		if f.set {
			return o, fmt.Errorf("option %s is set, but it only applies to runc; remove it from the runtime's options: %w", f.name, errdefs.ErrInvalidArgument)
		}
	}
	o.uid, o.gid = int(r.GetIoUid()), int(r.GetIoGid())
	if r.GetNoNewKeyring() {
		return o, fmt.Errorf("option NoNewKeyring is set, but a container that keeps the session keyring of containerd can read the host keys in it; remove it from the runtime's options (the keyring of a container counts against the users of that container, not of the host): %w", errdefs.ErrInvalidArgument)
	}
	if r.GetSystemdCgroup() {
		o.systemdCgroup = new(bool)
		*o.systemdCgroup = true
	}
	return o, nil
}

// fromGeneric reads generic options. A path to a configuration file of the host
// takes precedence over a body.
func fromGeneric(g *runtimeoptions.Options) (o createOptions, err error) {
	if g.GetConfigPath() != "" {
		if !filepath.IsAbs(g.GetConfigPath()) {
			return o, fmt.Errorf("ConfigPath of the runtime's options is %q; it must be an absolute path: %w", g.GetConfigPath(), errdefs.ErrInvalidArgument)
		}
		if _, err := os.Stat(g.GetConfigPath()); err != nil {
			return o, fmt.Errorf("ConfigPath of the runtime's options: %w; create the file or correct the path: %w", err, errdefs.ErrInvalidArgument)
		}
		return createOptions{configPath: g.GetConfigPath()}, nil
	}
	if len(bytes.TrimSpace(g.GetConfigBody())) == 0 {
		return o, nil
	}
	// CRI sends the handler's whole options table here, with the keys of runc.
	var t struct {
		NoPivotRoot, NoNewKeyring, SystemdCgroup bool
		ShimCgroup, BinaryName, Root             string
		CriuPath, CriuImagePath, CriuWorkPath    string
		IoUid, IoGid                             uint32
		TypeUrl, ConfigPath                      string
	}
	d := toml.NewDecoder(bytes.NewReader(g.GetConfigBody()))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) && len(strict.Errors) > 0 {
			return o, fmt.Errorf("options have the unknown key %v; remove it; settings of this runtime belong in /etc/sysbox/config.toml: %w", strict.Errors[0].Key(), errdefs.ErrInvalidArgument)
		}
		return o, fmt.Errorf("ConfigBody of the runtime's options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return fromRunc(&options.Options{
		NoPivotRoot: t.NoPivotRoot, NoNewKeyring: t.NoNewKeyring, SystemdCgroup: t.SystemdCgroup,
		ShimCgroup: t.ShimCgroup, BinaryName: t.BinaryName, Root: t.Root, IoUid: t.IoUid, IoGid: t.IoGid,
	})
}
