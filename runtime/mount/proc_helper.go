// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
	"sysbox/runtime/sys"
)

// Numbers of the helper's files.
const (
	helperWait  = 4 // the read end of a pipe that only this process can end
	helperPID   = 5 // the pid namespace
	helperMount = 20
)

// Tags of its reports.
const (
	tagPID = iota + 1
	tagMounted
)

// procByHelper makes a procfs of the container's pid namespace where the
// kernel has no option for it (before Linux 6.17): a child that is born in the
// pid namespace, and in all else is the host's, makes it and holds it until it
// is taken over.
func (t *Tree) procByHelper(m plan.Mount) (*os.File, error) {
	r, w, err := program.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	defer w.Close()
	stages, err := program.StartStages(procProgram(m, os.Getpid()), program.Options{
		Name:  "sysbox-proc",
		Files: []program.File{{File: r, At: helperWait}, {File: t.PIDNS, At: helperPID}},
	}, tagPID, helperDeadline)
	if err != nil {
		return nil, err
	}
	defer stages.Close()
	helper, err := stages.Stage2()
	if err == nil {
		defer func() {
			_ = helper.Signal(unix.SIGKILL)
			_, _ = helper.Wait() // a zombie would keep the container's init from ending
			helper.Close()
		}()
		_, err = stages.Expect(tagMounted)
	}
	if err != nil {
		return nil, fmt.Errorf("make a proc in the container's pid namespace: %w", err)
	}
	return sys.PidfdGetfd(helper.PidFD, helperMount)
}

// helperDeadline bounds each wait for the helper.
const helperDeadline = 10 * time.Second

func procProgram(m plan.Mount, parent int) program.Program {
	num := func(n int64) program.Arg { return program.Int(n) }
	p := append(program.Prelude(parent),
		program.Call{Name: "choose the pid namespace", Nr: unix.SYS_SETNS, Args: []program.Arg{num(helperPID), num(unix.CLONE_NEWPID)}},
		program.Fork("pid", "born", 0, -1),
		program.Report("report the pid", tagPID, "pid"),
		program.Exit(0),
		program.Call{Name: "open a proc", Label: "born", Nr: unix.SYS_FSOPEN, Args: []program.Arg{program.Str("proc"), num(unix.FSOPEN_CLOEXEC)}},
	)
	config := func(cmd int64, key, value program.Arg) {
		p = append(p, program.Call{Name: "configure the proc", Nr: unix.SYS_FSCONFIG, Args: []program.Arg{program.Result("born"), num(cmd), key, value, num(0)}})
	}
	config(unix.FSCONFIG_SET_STRING, program.Str("source"), program.Str("proc"))
	for _, d := range m.Data {
		if k, v, ok := cutOption(d); ok {
			config(unix.FSCONFIG_SET_STRING, program.Str(k), program.Str(v))
		} else {
			config(unix.FSCONFIG_SET_FLAG, program.Str(d), num(0))
		}
	}
	config(unix.FSCONFIG_CMD_CREATE, num(0), num(0))
	return append(p,
		program.Call{Name: "mount the proc", Label: "mount", Nr: unix.SYS_FSMOUNT, Args: []program.Arg{program.Result("born"), num(unix.FSMOUNT_CLOEXEC), num(int64(m.Set))}},
		program.Call{Name: "hold it", Nr: unix.SYS_DUP3, Args: []program.Arg{program.Result("mount"), num(helperMount), num(unix.O_CLOEXEC)}},
		program.Report("say that it is there", tagMounted, ""),
		program.Call{Name: "wait for the end", Nr: unix.SYS_READ, Args: []program.Arg{num(helperWait), &program.Buffer{Name: "buffer", N: 1}, num(1)}},
	)
}
