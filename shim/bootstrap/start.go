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

// Start returns the address of the shim for the container's pod, which it
// starts if there is none. The daemon need not have come up: its socket
// listens already, and connections wait in the queue.
func (r *Request) Start() (address string, err error) {
	group, err := bundle.Group(r.Bundle, r.ID)
	if err != nil {
		return "", err
	}
	path, err := socketPath(r.SocketDir, r.Address, r.Namespace, group)
	if err != nil {
		return "", err
	}
	address = "unix://" + path
	listener, err := listen(path)
	switch {
	case errors.Is(err, errServed):
	case err != nil:
		return "", err
	default:
		defer listener.Close()
		if err := r.launch(group, address, listener); err != nil {
			os.Remove(path)
			return "", err
		}
	}
	if err := bundle.WriteAddress(r.Bundle, address); err != nil {
		return "", fmt.Errorf("record the shim's address: %w", err)
	}
	return address, nil
}

// launch starts the daemon: this very binary without an action.
func (r *Request) launch(group, address string, listener *os.File) error {
	// Whatever the caller left open beyond the standard files stays out of the
	// daemon, which outlives the caller. Linux 5.11; older kernels inherit it.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
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
		return fmt.Errorf("start the shim's daemon: %w", err)
	}
	if err := r.place(p.Pid); err != nil {
		p.Kill()
		p.Wait()
		return err
	}
	return p.Release()
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
