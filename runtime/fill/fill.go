// SPDX-License-Identifier: Apache-2.0

// Package fill copies directories of an image into a container that is being made, and restores
// the marks of inner overlays there, in a process in the container's cgroups.
//
// The image, or an earlier life of the container, decides how much that is. So the container pays
// for the work, for the kernel memory and, in a tmpfs, for the copied files, and whoever cancels
// the Create ends the process. The process stays in the host's namespaces and gets only open
// files, so no container can look into it. That is why it may be written in Go, where others are
// programs of system calls (package program).
//
// What does not belong here: which directories are filled, and where they are (package mount);
// how files are copied (package fsutil) and marks are restored (package whiteout).
package fill

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"sysbox/runtime/fsutil"
	"sysbox/runtime/program"
	"sysbox/runtime/whiteout"
)

// The bounds of what is copied for one container. A copy is as large as the image, once for each
// container. The image of a Kubernetes node, or of a machine whose Docker has a dozen images, has
// some 100,000 files and 10 GB. More than these bounds could not be copied in the two minutes
// that kubelet allows for a Create.
const (
	maxFiles = 1_000_000
	maxBytes = 64 << 30
)

// Filler fills the directories of one container, with bounds for all of them together. It must
// not be used by several goroutines at once.
type Filler struct {
	// Join opens the files with which a process joins the container's cgroups: version 1 tasks
	// files, and the version 2 directory, nil without one. The Filler closes them.
	Join func() (tasks []*os.File, unified *os.File, err error)
	// UID and GID are the host's ids that own copies of files whose own owner is not mapped.
	UID, GID uint32

	used remaining
}

// remaining is what may still be copied for a container.
type remaining struct {
	fsutil.Budget
	Marks int // records of whiteout lists
}

// Copy is [fsutil.Copy], with a bound of 1,000,000 files and 64 GiB for all calls together. An
// error comes from another process: it has only a text and an errno.
func (f *Filler) Copy(ctx context.Context, from, to *os.File) error {
	return f.run(ctx, jobCopy, from, to)
}

// Restore is [whiteout.Restore], with a bound of [whiteout.Max] records for all calls together.
// Errors are as those of Copy.
func (f *Filler) Restore(ctx context.Context, dir *os.File) error {
	if has, err := whiteout.Has(dir); !has || err != nil {
		return err // the usual case, at the cost of one system call
	}
	return f.run(ctx, jobRestore, dir, dir)
}

// run runs a job in a process and waits for its end. The calling thread must outlive the process,
// see [program.Start].
func (f *Filler) run(ctx context.Context, job string, from, to *os.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	budget := remaining{fsutil.Budget{Files: maxFiles - f.used.Files, Bytes: maxBytes - f.used.Bytes}, whiteout.Max - f.used.Marks}
	text, status, err := f.process(ctx, request{job, os.Getpid(), f.UID, f.GID, budget}, from, to)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("start a process in the container's cgroups: %w", err)
	}
	var a result
	if json.Unmarshal(text, &a) != nil {
		return endedEarly(status)
	}
	f.used = remaining{fsutil.Budget{Files: maxFiles - a.Remaining.Files, Bytes: maxBytes - a.Remaining.Bytes}, whiteout.Max - a.Remaining.Marks}
	if a.TooLarge {
		return fmt.Errorf("%s (for one container, %d files and %d GiB); make the image smaller there, or mount a volume in its place", a.Error, maxFiles, maxBytes>>30)
	}
	if a.Error != "" {
		return &jobError{a.Error, a.Errno}
	}
	return nil
}

// jobError is an error that the process has reported.
type jobError struct {
	text  string
	errno syscall.Errno
}

func (e *jobError) Error() string { return e.text }

// Unwrap returns the errno, nil if there is none.
func (e *jobError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// endedEarly is the error for a process that ended without a result.
func endedEarly(status program.Status) error {
	how := fmt.Sprintf("with exit status %d", status.Code)
	if status.Signal != 0 {
		how = "by the signal " + unix.SignalName(status.Signal)
	}
	return fmt.Errorf("the process that does this ended early, %s; the container's limits of memory and processes (linux.resources) apply to it: raise them, make the image smaller there, or mount a volume in its place", how)
}
