// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"sysbox/tests/images"
	"sysbox/tests/pace"
)

// patience ends what would hang; no outcome depends on it.
var patience = time.Minute * pace.Patience()

// A rig is a caller of one target in one case: its folder with the bundles, the shims it
// has started, the events it was told, and what the case has seen.
type rig struct {
	*target
	t         *testing.T
	dir       string
	namespace string
	events    *recorder

	mu     sync.Mutex
	seen   map[string]string
	names  map[uint32]string // who has which pid, by what the shim answered
	shims  []*shim
	boxes  []*box
	mounts []string // what this caller has mounted itself
}

var rigs atomic.Int64

func newRig(t *testing.T, tg *target) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") // short: it becomes a part of sockets' paths
	if err != nil {
		t.Fatal(err)
	}
	n := rigs.Add(1)
	r := &rig{
		target: tg, t: t, dir: dir, namespace: fmt.Sprintf("%s-%d", session, n),
		seen: map[string]string{}, names: map[uint32]string{},
	}
	if tg.form == crioForm {
		r.events = newRecorder("")
	} else {
		r.events = newRecorder(filepath.Join(dir, "e"))
		r.must(r.events.serve())
	}
	// Hosts of their own would have pools of their own.
	conf := fmt.Sprintf("state_dir = %q\ndata_dir = %q\n[ids]\npool_start = %d\npool_size = %d\n",
		filepath.Join(dir, "run"), filepath.Join(dir, "lib"), 1<<30+n<<20, 1<<20)
	r.must(os.WriteFile(filepath.Join(dir, "sysbox.toml"), []byte(conf), 0o600))
	t.Cleanup(r.clear)
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// see notes something that the other target is to show as well.
func (r *rig) see(field, format string, args ...any) {
	r.t.Helper()
	value := fmt.Sprintf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, twice := r.seen[field]; twice {
		r.t.Errorf("%q is seen twice", field)
	}
	r.seen[field] = value
}

// bundle makes a container's bundle as containerd does: config.json, and the log's FIFO
// with its reader.
func (r *rig) bundle(id string, args []string, edit ...func(*specs.Spec)) string {
	r.t.Helper()
	dir := r.bundleDir(id)
	for _, d := range []string{"rootfs", "../upper-" + id, "../work-" + id} {
		r.must(os.MkdirAll(filepath.Join(dir, d), 0o711))
	}
	ctx := namespaces.WithNamespace(r.t.Context(), r.namespace)
	spec, err := oci.GenerateSpec(ctx, nil, &containers.Container{ID: id},
		oci.WithProcessArgs(args...), oci.WithDefaultPathEnv, oci.WithRootFSPath("rootfs"), oci.WithEnv([]string{"PATH=/bin"}))
	r.must(err)
	spec.Linux.CgroupsPath = r.cgroup(id)
	for _, e := range edit {
		e(spec)
	}
	if r.form == crioForm {
		spec.Root.Path = filepath.Join(dir, "../merged-"+id)
	}
	r.config(dir, spec)
	fifo := filepath.Join(dir, "log")
	r.must(unix.Mkfifo(fifo, 0o700))
	log, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
	r.must(err)
	var text bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&text, log)
	}()
	r.t.Cleanup(func() {
		log.Close()
		<-done
		if r.t.Failed() {
			r.t.Logf("%s's shim said:\n%s", id, text.Bytes())
		}
	})
	return dir
}

func (r *rig) config(dir string, spec *specs.Spec) {
	r.t.Helper()
	j, err := json.Marshal(spec)
	r.must(err)
	r.must(os.WriteFile(filepath.Join(dir, "config.json"), j, 0o600))
}

func (r *rig) bundleDir(id string) string { return filepath.Join(r.dir, "b", id) }

// parent is the cgroup that a case's containers are in.
func (r *rig) parent() string          { return "/" + session + "/" + r.namespace }
func (r *rig) cgroup(id string) string { return r.parent() + "/" + id }

// edits of specifications.
func inPod(pod string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Annotations = map[string]string{"io.kubernetes.cri.sandbox-id": pod, "io.kubernetes.cri.container-type": "container"}
	}
}

// layers is where the rootfs comes from: an overlay, as snapshotters give it.
func (r *rig) layers(id string) (options []string) {
	r.t.Helper()
	root, err := images.BusyboxRoot()
	r.must(err)
	at := filepath.Join(r.dir, "b")
	return []string{"lowerdir=" + root, "upperdir=" + filepath.Join(at, "upper-"+id), "workdir=" + filepath.Join(at, "work-"+id)}
}

// action runs the shim's binary as the caller does, and returns its stdout, or what it
// said on stderr with the error.
func (r *rig) action(id, dir string, stdin []byte, args ...string) ([]byte, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	base := []string{"-namespace", r.namespace, "-address", r.address(), "-publish-binary", "/bin/true", "-id", id}
	if r.form == crioForm {
		base[5] = "crio"
	}
	cmd := exec.CommandContext(ctx, r.bin, append(base, args...)...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(stdin)
	path := os.Getenv("PATH")
	if r.path != "" {
		path = r.path + ":" + path
	}
	cmd.Env = append(os.Environ(), "PATH="+path, "GOMAXPROCS=2", "MAX_SHIM_VERSION=2", "NAMESPACE="+r.namespace,
		"TTRPC_ADDRESS="+r.events.path, "GRPC_ADDRESS="+r.address(), "SYSBOX_CONFIG_FILE="+filepath.Join(r.dir, "sysbox.toml"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, errs.Bytes())
	}
	if args[len(args)-1] == "start" && errs.Len() > 0 {
		r.t.Errorf("start wrote to stderr, which callers read as a part of its answer: %s", errs.Bytes())
	}
	return out.Bytes(), nil
}

// address is containerd's gRPC socket, which is not there.
func (r *rig) address() string {
	if r.form == crioForm {
		return ""
	}
	return filepath.Join(r.dir, "c")
}

// sockets is where shims keep theirs.
func (r *rig) sockets() string {
	if r.form == newForm {
		return filepath.Join(r.dir, "s")
	}
	return "/run/containerd/s"
}

// stdin is what the caller sends to start.
func (r *rig) stdin(id string) []byte {
	r.t.Helper()
	var m proto.Message
	switch dir := r.sockets(); r.form {
	case newForm:
		m = &bootapi.BootstrapParams{
			InstanceID: id, Namespace: r.namespace, ContainerdVersion: "2.4.2", SocketDir: &dir,
			ContainerdTtrpcAddress: r.events.path, ContainerdGrpcAddress: r.address(), ContainerdBinary: "/bin/true",
		}
	case oldForm:
		m = &anypb.Any{TypeUrl: "containerd.runc.v1.Options"}
	default:
		return nil
	}
	b, err := proto.Marshal(m)
	r.must(err)
	return b
}

// An answer is that of the start action, whichever its form.
type answer struct {
	form     string // protobuf, JSON, bare
	version  int32
	address  string
	protocol string
	types    []string // of its extensions
}

func (r *rig) answer(out []byte) (a answer, err error) {
	if r.form == newForm {
		var m bootapi.BootstrapResult
		if err := proto.Unmarshal(out, &m); err != nil {
			return a, fmt.Errorf("start answered %q: %w", out, err)
		}
		a = answer{form: "protobuf", version: m.Version, address: m.Address, protocol: m.Protocol}
		for _, e := range m.Extensions {
			a.types = append(a.types, e.GetValue().GetTypeUrl())
		}
		return a, nil
	}
	if bytes.HasPrefix(out, []byte("{")) {
		var m struct {
			Version           int32
			Address, Protocol string
		}
		err := json.Unmarshal(out, &m)
		return answer{form: "JSON", version: m.Version, address: m.Address, protocol: m.Protocol}, err
	}
	return answer{form: "bare", version: 2, address: string(out), protocol: "ttrpc"}, nil
}

// start runs the start action for a container whose bundle is there.
func (r *rig) start(id string) (*shim, answer) {
	r.t.Helper()
	out, err := r.action(id, r.bundleDir(id), r.stdin(id), "start")
	r.must(err)
	a, err := r.answer(out)
	r.must(err)
	s, err := r.dial(a.address)
	r.must(err)
	return s, a
}

// remove runs the delete action.
func (r *rig) remove(id string) string {
	r.t.Helper()
	dir := r.bundleDir(id)
	out, err := r.action(id, dir, nil, "-bundle", dir, "delete")
	if err != nil {
		r.t.Logf("the delete action of %s: %v", id, err)
		return "failed"
	}
	return r.deleted(out)
}

// finish ends what the case has left running, as a caller would, and sees what is left
// on the host.
func (r *rig) finish() {
	r.t.Helper()
	for _, b := range r.boxes {
		if b.over {
			continue
		}
		if b.kill("", 9) == "ok" || strings.HasPrefix(b.state(""), "stopped") {
			b.wait("")
		}
		b.delete("")
	}
	for _, s := range r.shims {
		s.end()
	}
	if r.form != crioForm { // which never calls it
		for _, b := range r.boxes {
			r.remove(b.id)
		}
	}
	r.unmount()
	r.see("left on the host", "%s", r.left())
}
