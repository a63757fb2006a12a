// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/runtime/fill"
	"sysbox/tests/conformance/inside"
	"sysbox/tests/pace"
	"sysbox/tests/private"
	"sysbox/tests/testcontainer"
)

func TestMain(m *testing.M) {
	if status, mine := fill.Main(os.Args); mine {
		os.Exit(status)
	}
	switch filepath.Base(os.Args[0]) {
	case inside.Name:
		os.Exit(inside.Main())
	case HookName:
		os.Exit(writeDown())
	}
	os.Exit(private.Run(nil, func() int {
		code := m.Run()
		if err := removeCgroups(); err != nil {
			fmt.Fprintln(os.Stderr, "left behind:", err)
			code = 1
		}
		return code
	}))
}

// removeCgroups removes the folder of this test's cgroups from each hierarchy, where all
// below it must be gone.
func removeCgroups() error {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + testCgroup)
	for _, dir := range append(dirs, "/sys/fs/cgroup"+testCgroup) {
		if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// world is what the containers of the table have in common: one bundle, whose config.json
// is written anew for each, and folders of the host beside it.
type world struct {
	bundle string
	cfg    *config.Config
	log    *record
	told   chan specs.ContainerProcessState // what the seccomp agent was told
}

// record keeps what is logged, as a slog.Handler.
type record struct {
	mu   sync.Mutex
	said []string // guarded by mu
}

func (r *record) Enabled(context.Context, slog.Level) bool { return true }
func (r *record) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *record) WithGroup(string) slog.Handler            { return r }

func (r *record) Handle(_ context.Context, e slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, e.Message)
	return nil
}

func (r *record) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = nil
}

func (r *record) since() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.said)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{cfg: testcontainer.Config(t), bundle: filepath.Join(t.TempDir(), "bundle"), log: &record{}}
	for name, text := range map[string]string{
		"rootfs/etc/image": "of the image", "rootfs/etc/secret": "secret", "rootfs/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
		"rootfs/srv/secrets/one": "1", "rootfs/copied/file": "of the image's folder",
		"plain/file": "plain", "flagged/file": "flagged", "below/file": "below", "log/log": "",
		"rootfs/m/": "", "rootfs/proc/": "", "rootfs/sys/": "", "rootfs/dev/": "", "rootfs/tmp/": "", "plain/sub/": "", "flagged/sub/": "",
	} {
		name = filepath.Join(w.bundle, filepath.FromSlash(name)) + strings.Repeat("/", strings.Count(name[len(name)-1:], "/"))
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		if !strings.HasSuffix(name, "/") {
			must(t, os.WriteFile(name, []byte(text), 0o644))
		}
	}
	must(t, os.Chmod(filepath.Join(w.bundle, "log/log"), 0o666))
	root := filepath.Join(w.bundle, "rootfs")
	must(t, os.Symlink("/etc", filepath.Join(root, "link-to-host")))
	must(t, os.Symlink("nowhere", filepath.Join(root, "etc/link")))
	must(t, os.Symlink("file", filepath.Join(w.bundle, "plain/link")))
	w.devices(t)
	testcontainer.Copy(t, "/bin/busybox", filepath.Join(root, "bin/busybox"))
	testcontainer.Copy(t, "/proc/self/exe", filepath.Join(root, "bin", inside.Name))
	testcontainer.Libraries(t, root)
	w.mount(t, w.bundle, w.bundle) // so that the root can be a slave
	for _, name := range []string{"plain", "flagged"} {
		at := filepath.Join(w.bundle, name)
		w.mount(t, at, at)
		w.mount(t, filepath.Join(w.bundle, "below"), filepath.Join(at, "sub"))
	}
	for _, name := range []string{"flagged", "flagged/sub"} {
		const all = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOSYMFOLLOW | unix.MS_NODIRATIME | unix.MS_NOATIME
		must(t, unix.Mount("", filepath.Join(w.bundle, name), "", unix.MS_REMOUNT|unix.MS_BIND|all, ""))
	}
	return w
}

// pod returns one for a container or more of the table.
func (w *world) pod() *runtime.Pod {
	return runtime.NewPod(w.cfg, slog.New(w.log), "conformance", "pod")
}

// devices makes the host's network devices, one for each row that moves one, and one that stays.
func (w *world) devices(t *testing.T) {
	t.Helper()
	for i, letter := range []string{"a", "b", "c", "d"} {
		name, peer := hostDevice(letter), hostDevice(letter)+"p"
		t.Cleanup(func() {
			// What a container had is gone with it.
			if out, err := exec.Command("ip", "link", "del", name).CombinedOutput(); err != nil && !strings.Contains(string(out), "Cannot find device") {
				t.Errorf("ip link del %s: %v: %s", name, err, out)
			}
		})
		for _, c := range []string{
			"link add " + name + " type veth peer name " + peer,
			fmt.Sprintf("addr add 10.99.%d.1/24 dev %s", i+1, name),
		} {
			if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
				t.Fatalf("ip %s: %v: %s", c, err, out)
			}
		}
	}
}

// mount binds one folder on another, as a mount that others can be slaves of.
func (w *world) mount(t *testing.T, from, to string) {
	t.Helper()
	must(t, unix.Mount(from, to, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(to, unix.MNT_DETACH)) })
	must(t, unix.Mount("", to, "", unix.MS_SHARED, ""))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// spec is what a container has before its rows change it; asks are the questions to it.
func (w *world) spec(asks []string) *specs.Spec {
	return testcontainer.Spec(fmt.Sprintf("%s/%d", testCgroup, os.Getpid()), append([]string{"/bin/" + inside.Name}, asks...)...)
}

// write writes config.json, with what only the test knows filled in.
func (w *world) write(t *testing.T, s *specs.Spec, first string) {
	t.Helper()
	for i, n := range s.Linux.Namespaces {
		s.Linux.Namespaces[i].Path = strings.Replace(n.Path, firstNS, first, 1)
	}
	if p := s.Linux.Seccomp; p != nil && p.ListenerPath == agentSocket {
		p.ListenerPath = filepath.Join(w.bundle, "agent")
	}
	self, err := os.Executable()
	must(t, err)
	for _, k := range hookKinds {
		if s.Hooks == nil {
			break
		}
		for i, h := range *k.of(s.Hooks) {
			if len(h.Args) == 0 || h.Args[0] != HookName {
				continue
			}
			list, log := *k.of(s.Hooks), filepath.Join(w.bundle, "log")
			if h.Path == ownProgram {
				list[i].Path = self
			} else {
				log = "/log"
			}
			list[i].Args = append(h.Args, log)
		}
	}
	b, err := json.Marshal(s)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(w.bundle, "config.json"), b, 0o600))
}

// made is a container of the table.
type made struct {
	*runtime.Container
	w        *world
	stdin    *os.File // held open while it is looked at
	out      *os.File
	netns    string
	pid      int
	terminal bool
	request  runtime.CreateRequest
	pod      *runtime.Pod
}

// create makes a container; the caller starts it.
func (w *world) create(t *testing.T, p *runtime.Pod, id string, terminal bool) (*made, error) {
	t.Helper()
	inR, inW, err := os.Pipe()
	must(t, err)
	outR, outW, err := os.Pipe()
	must(t, err)
	m := &made{w: w, stdin: inW, out: outR, terminal: terminal, pod: p}
	t.Cleanup(func() { inW.Close(); outR.Close() })
	defer inR.Close()
	defer outW.Close()
	m.request = runtime.CreateRequest{ID: id, Bundle: w.bundle, Terminal: terminal}
	if !terminal {
		m.request.Stdio = runtime.Stdio{Stdin: inR, Stdout: outW, Stderr: outW}
	}
	c, err := p.Create(t.Context(), m.request)
	if err != nil {
		return nil, err
	}
	m.Container, m.pid = c, c.Init().Pid()
	t.Cleanup(func() {
		if err := c.Delete(context.Background()); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
	if terminal {
		m.out = c.Init().Console()
	}
	m.netns, err = os.Readlink(fmt.Sprintf("/proc/%d/ns/net", m.pid))
	return m, err
}

// answers reads the one line that the program inside prints.
func answers(t *testing.T, f *os.File) map[string]string {
	t.Helper()
	_ = f.SetReadDeadline(time.Now().Add(time.Minute * pace.Patience()))
	var got map[string]string
	var text strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		text.Write(buf[:n])
		if json.Unmarshal([]byte(strings.TrimSpace(text.String())), &got) == nil && text.Len() > 0 {
			return got
		}
		if err != nil {
			t.Fatalf("no answers: %v: %s", err, text.String())
		}
	}
}

// writeDown is the program of hooks: it appends how it was run to the file "log" in the
// folder that its last argument names.
func writeDown() int {
	h := ran{Args: os.Args, Env: os.Environ()}
	if err := json.NewDecoder(os.Stdin).Decode(&h.State); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var err error
	if h.Network, err = os.Readlink("/proc/self/ns/net"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	b, err := json.Marshal(h)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	f, err := os.OpenFile(filepath.Join(os.Args[len(os.Args)-1], "log"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.Write(append(b, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// ran is how a hook was run.
type ran struct {
	Args, Env []string
	Network   string
	State     map[string]json.RawMessage
}
