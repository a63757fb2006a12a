// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sysbox/shim/bundle"
)

// ListenerFD is where the daemon finds its listening socket.
const ListenerFD = 3

// Shim is the shim that serves a pod.
type Shim struct {
	// Address of its socket, such as unix:///run/containerd/s/….
	Address string
	path    string
	daemon  *os.Process // nil if the shim was running already
}

// Abandon kills a shim that Start has started, because the caller will not learn of it. A shim
// that was running before keeps running.
func (s *Shim) Abandon() {
	if s.daemon == nil {
		return
	}
	_ = s.daemon.Kill()
	_, _ = s.daemon.Wait()
	_ = os.Remove(s.path)
}

// Start returns the shim for the container's pod and starts it if it is not running. It does not
// wait for the daemon: the socket listens already, and connections wait in its backlog. If
// Start fails, no shim that it has started remains.
func (r *Request) Start() (*Shim, error) {
	group, err := bundle.Group(r.Bundle, r.ID)
	if err != nil {
		return nil, err
	}
	path, err := socketPath(r.SocketDir, r.Address, r.Namespace, group)
	if err != nil {
		return nil, err
	}
	s := &Shim{Address: "unix://" + path, path: path}
	listener, err := listen(path)
	switch {
	case errors.Is(err, errServed):
	case err != nil:
		return nil, err
	default:
		defer listener.Close()
		if s.daemon, err = r.launch(group, s.Address, listener); err != nil {
			os.Remove(path)
			return nil, err
		}
	}
	// If containerd exits now, the bundle may vanish: the next containerd cleans it up.
	if err := bundle.WriteAddress(r.Bundle, s.Address); err != nil {
		s.Abandon()
		return nil, fmt.Errorf("record the shim's address: %w", err)
	}
	return s, nil
}

// launch starts the daemon: this same binary without an action.
func (r *Request) launch(group, address string, listener *os.File) (*os.Process, error) {
	// The daemon outlives the caller and must not keep other files of the caller open.
	// Linux 5.11; on older kernels it inherits them.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	log := openLog(r.Bundle)
	if log != nil {
		defer log.Close()
	} else {
		log = null
	}
	args := []string{os.Args[0], "-namespace", r.Namespace, "-id", group, "-address", r.Address, "-socket", address}
	if r.Debug {
		args = append(args, "-debug")
	}
	// /proc/self/exe: the daemon is the same binary even if an upgrade replaces
	// the file meanwhile.
	p, err := os.StartProcess("/proc/self/exe", args, &os.ProcAttr{
		Dir:   r.Bundle,
		Env:   r.environ(),
		Files: []*os.File{null, null, log, listener},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start the shim's daemon: %w", err)
	}
	if err := r.join(p.Pid); err != nil {
		p.Kill()
		p.Wait()
		return nil, err
	}
	return p, nil
}

func (r *Request) join(pid int) error {
	if r.ShimCgroup != "" {
		if err := joinCgroup(r.ShimCgroup, pid); err != nil {
			return fmt.Errorf("move the shim to its cgroup (shim_cgroup): %w", err)
		}
	}
	return adjustOOMScore(pid)
}

func (r *Request) environ() []string {
	// os.Getenv takes the first of two entries, so the old one goes.
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "TTRPC_ADDRESS=") })
	env = append(env, "TTRPC_ADDRESS="+r.TTRPCAddress)
	if os.Getenv("GOMAXPROCS") == "" {
		env = append(env, "GOMAXPROCS=2")
	}
	return env
}

// openLog opens the caller's log FIFO for reading and writing, so that the open neither
// waits for a reader nor fails without one, and a write never raises SIGPIPE.
func openLog(dir string) *os.File {
	fd, err := unix.Open(filepath.Join(dir, bundle.Log), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		unix.Close(fd)
		return nil
	}
	return os.NewFile(uintptr(fd), bundle.Log)
}

// maxOOMScore is OOM_SCORE_ADJ_MAX, proc_pid_oom_score_adj(5).
const maxOOMScore = 1000

// adjustOOMScore makes the shim slightly more likely to be killed than its
// parent, the container manager. Lowering the score needs CAP_SYS_RESOURCE; on
// hosts that do not grant it the shim keeps the score it inherited.
func adjustOOMScore(pid int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", os.Getppid()))
	if err != nil {
		return nil // the parent has exited
	}
	score, err := strconv.Atoi(string(b[:max(0, len(b)-1)]))
	if err != nil {
		return fmt.Errorf("read the parent's oom_score_adj: %w", err)
	}
	score = min(score+1, maxOOMScore)
	err = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(score)), 0)
	if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("set the shim's oom_score_adj: %w", err)
	}
	return nil
}
