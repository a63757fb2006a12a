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

// Shim is one that serves a pod.
type Shim struct {
	// Address of its socket, such as unix:///run/containerd/s/….
	Address string
	path    string
	daemon  *os.Process // nil if it was there before
}

// Abandon ends a shim that was started for somebody who will not hear of it. One that was
// there before goes on.
func (s *Shim) Abandon() {
	if s.daemon == nil {
		return
	}
	_ = s.daemon.Kill()
	_, _ = s.daemon.Wait()
	_ = os.Remove(s.path)
}

// Start returns the shim for the container's pod, which it starts if there is none. The
// daemon need not have come up: its socket listens already, and connections wait in the
// queue. After an error none is left that was started.
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
	// The bundle goes if containerd ends meanwhile, and comes again and cleans up.
	if err := bundle.WriteAddress(r.Bundle, s.Address); err != nil {
		s.Abandon()
		return nil, fmt.Errorf("record the shim's address: %w", err)
	}
	return s, nil
}

// launch starts the daemon: this very binary without an action.
func (r *Request) launch(group, address string, listener *os.File) (*os.Process, error) {
	// Whatever the caller left open beyond the standard files stays out of the
	// daemon, which outlives the caller. Linux 5.11; older kernels inherit it.
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
	// /proc/self/exe: the daemon is the same binary even if an upgrade has
	// replaced the file meanwhile.
	p, err := os.StartProcess("/proc/self/exe", args, &os.ProcAttr{
		Dir:   r.Bundle,
		Env:   r.environ(),
		Files: []*os.File{null, null, log, listener},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start the shim's daemon: %w", err)
	}
	if err := r.place(p.Pid); err != nil {
		p.Kill()
		p.Wait()
		return nil, err
	}
	return p, nil
}

func (r *Request) place(pid int) error {
	if r.ShimCgroup != "" {
		if err := joinCgroup(r.ShimCgroup, pid); err != nil {
			return fmt.Errorf("move the shim to its cgroup (shim_cgroup): %w", err)
		}
	}
	return adjustOOMScore(pid)
}

func (r *Request) environ() []string {
	// Of two entries the first counts (os.Getenv), so the old one goes.
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "TTRPC_ADDRESS=") })
	env = append(env, "TTRPC_ADDRESS="+r.TTRPCAddress)
	if os.Getenv("GOMAXPROCS") == "" {
		env = append(env, "GOMAXPROCS=2")
	}
	return env
}

// openLog opens the caller's log FIFO. Reading and writing, so that it neither
// waits for a reader nor fails without one, and a write never gets SIGPIPE.
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

// adjustOOMScore makes the shim one step likelier to be killed than its
// parent, the container manager. Lowering needs CAP_SYS_RESOURCE, which not
// every host grants: then the shim keeps what it inherited.
func adjustOOMScore(pid int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", os.Getppid()))
	if err != nil {
		return nil // the parent has gone; nothing to be relative to
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
