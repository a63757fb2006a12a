// SPDX-License-Identifier: Apache-2.0

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

	"sysbox/runtime/fsutil"
	"sysbox/runtime/program"
	"sysbox/runtime/sys"
	"sysbox/runtime/whiteout"
)

const (
	jobCopy    = "copy"
	jobRestore = "restore"
)

// name is the process's argv[0], by which [Main] recognizes it.
const name = "sysbox-fill"

// request is the process's argv[1], as JSON.
type request struct {
	Job       string
	Shim      int // the shim's pid
	UID, GID  uint32
	Remaining remaining
}

// result is what the process writes at its end, as JSON.
type result struct {
	Error     string        `json:",omitempty"`
	Errno     syscall.Errno `json:",omitempty"`
	TooLarge  bool          `json:",omitempty"` // the error is fsutil.ErrBudget
	Remaining remaining
}

// Files of the process. Those from fdUnified on are closed after they have been used.
const (
	fdResult = 10 + iota // a pipe
	fdFrom
	fdTo
	fdSelf // the file of this program
	fdUnified
	fdTasks
)

const (
	// startDeadline bounds the time to the process's execve.
	startDeadline = 10 * time.Second
	// killGrace is how long to wait for the end of a killed process, which may wait for a file
	// system that does not answer.
	killGrace = time.Second
	// maxResult is in bytes. An error has at most two paths.
	maxResult = 64 << 10
)

// process runs a job. It returns what the process has written, and how it ended.
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

// start starts this program again, as a process in the container's cgroups.
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
			program.Strs{"GOMAXPROCS=1"}, // this saves threads, which count for the container
			program.Sym{Name: "AT_EMPTY_PATH", Value: unix.AT_EMPTY_PATH},
		},
	})
	stages, err := program.StartStages(p, program.Options{Files: files}, program.InCgroupsTag, startDeadline)
	if err != nil {
		return nil, err
	}
	defer stages.Close()
	stage2, err := stages.Stage2()
	if err != nil {
		return nil, err
	}
	if err := stages.Executed(); err != nil {
		stage2.Signal(unix.SIGKILL)
		_, _ = program.Reap(stage2, time.Now().Add(killGrace))
		return nil, err
	}
	return stage2, nil
}

// Main runs the job for which [Filler] has started this program, if it has. Every program that
// makes containers calls it first. args are os.Args.
func Main(args []string) (status int, mine bool) {
	if len(args) != 2 || args[0] != name {
		return 0, false
	}
	var r request
	if json.Unmarshal([]byte(args[1]), &r) != nil {
		return 2, true
	}
	// If the container reaches its memory limit, the kernel kills this process, whatever score it
	// has inherited.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	err := sys.AsFSID(int(r.UID), int(r.GID), func() error {
		// The kernel forgets this signal when ids change, see program.Prelude.
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
		a.Error, a.TooLarge = err.Error(), errors.Is(err, fsutil.ErrBudget)
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
		return fsutil.Copy(from, to, &r.Remaining.Budget)
	case jobRestore:
		return whiteout.Restore(context.Background(), to, &r.Remaining.Marks)
	}
	return fmt.Errorf("job %q", r.Job)
}
