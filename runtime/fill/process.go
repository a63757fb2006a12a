package fill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
	"sysbox/runtime/sys"
	"sysbox/runtime/tree"
	"sysbox/runtime/whiteout"
)

const (
	jobCopy    = "copy"
	jobRestore = "restore"
)

// name is the process's argv[0], by which [Main] knows that it is meant.
const name = "sysbox-fill"

// request is the process's argv[1], as JSON.
type request struct {
	Job       string
	Shim      int // its pid
	UID, GID  uint32
	Remaining remaining
}

// answer is what the process writes at its end, as JSON.
type result struct {
	Error     string        `json:",omitempty"`
	Errno     syscall.Errno `json:",omitempty"`
	TooLarge  bool          `json:",omitempty"` // tree.ErrBudget
	Remaining remaining
}

// Files of the process. Those from fdUnified on are closed when they have been used.
const (
	fdResult = 10 + iota // a pipe
	fdFrom
	fdTo
	fdSelf // the program's file
	fdUnified
	fdTasks
)

const (
	// startDeadline bounds the time to the process's execve.
	startDeadline = 10 * time.Second
	// killGrace is how long the end of a killed process is waited for: it may wait for a file
	// system that does not answer.
	killGrace = time.Second
	// maxAnswer is in bytes. An error has two paths at the most.
	maxResult = 64 << 10
)

// process runs a job, and returns what the process has written and how it ended.
func (f *Filler) process(ctx context.Context, r request, from, to *os.File) (text []byte, status program.Status, err error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, status, err
	}
	defer out.Close()
	p, err := f.start(r, from, to, in)
	in.Close()
	if err != nil {
		return nil, status, err
	}
	stop := context.AfterFunc(ctx, func() { _ = out.SetReadDeadline(time.Now()) })
	defer stop()
	text, err = io.ReadAll(io.LimitReader(out, maxResult))
	if err != nil {
		p.Signal(unix.SIGKILL)
	}
	status, ended := program.Reap(p, time.Now().Add(killGrace))
	return text, status, errors.Join(err, ended)
}

// start starts this program once more, as a process of the container's cgroups.
func (f *Filler) start(r request, from, to, answer *os.File) (*program.Process, error) {
	arg, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	self, err := os.OpenFile("/proc/self/exe", unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer self.Close()
	tasks, unified, err := f.Join()
	if err != nil {
		return nil, err
	}
	files := []program.File{{File: answer, At: fdResult}, {File: from, At: fdFrom}, {File: to, At: fdTo}, {File: self, At: fdSelf}}
	cgroup := -1
	if unified != nil {
		defer unified.Close()
		cgroup = fdUnified
		files = append(files, program.File{File: unified, At: fdUnified})
	}
	for i, t := range tasks {
		defer t.Close()
		files = append(files, program.File{File: t, At: fdTasks + i})
	}
	p := append(program.InCgroups(os.Getpid(), cgroup, fdTasks, len(tasks)), program.Call{
		Name: "execute the shim's own file", Nr: unix.SYS_EXECVEAT,
		Args: []program.Arg{
			program.Int(fdSelf), program.Str(""),
			program.Strs{name, string(arg)},
			program.Strs{"GOMAXPROCS=1"}, // which spares the container threads
			program.Sym{Name: "AT_EMPTY_PATH", Value: unix.AT_EMPTY_PATH},
		},
	})
	stages, err := program.StartStages(p, program.Options{Files: files}, program.InCgroupsTag, startDeadline)
	if err != nil {
		return nil, err
	}
	defer stages.Close()
	second, err := stages.Second()
	if err != nil {
		return nil, err
	}
	if err := stages.Executed(); err != nil {
		second.Signal(unix.SIGKILL)
		_, _ = program.Reap(second, time.Now().Add(killGrace))
		return nil, err
	}
	return second, nil
}

// Main does what [Filler] has started this program for, if it has; every program that makes
// containers calls it first of all. args are os.Args.
func Main(args []string) (status int, mine bool) {
	if len(args) != 2 || args[0] != name {
		return 0, false
	}
	var r request
	if json.Unmarshal([]byte(args[1]), &r) != nil {
		return 2, true
	}
	// The container's limit of memory ends this process, whatever score the shim has.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	err := sys.AsFSID(int(r.UID), int(r.GID), func() error {
		// Forgotten with the ids, see program.Prelude.
		if err := sys.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)); err != nil {
			return err
		}
		if os.Getppid() != r.Shim {
			return errors.New("the shim has ended")
		}
		return r.do(os.NewFile(fdFrom, "from"), os.NewFile(fdTo, "to"))
	})
	a := result{Remaining: r.Remaining}
	if err != nil {
		a.Error, a.TooLarge = err.Error(), errors.Is(err, tree.ErrBudget)
		errors.As(err, &a.Errno)
	}
	text, err := json.Marshal(a)
	if err == nil {
		_, err = os.NewFile(fdResult, "answer").Write(text)
	}
	if err != nil {
		return 1, true
	}
	return 0, true
}

func (r *request) do(from, to *os.File) error {
	switch r.Job {
	case jobCopy:
		return tree.Copy(from, to, &r.Remaining.Budget)
	case jobRestore:
		return whiteout.Restore(context.Background(), to, &r.Remaining.Marks)
	}
	return fmt.Errorf("job %q", r.Job)
}
