// Package fill fills folders of a container that is being made with what its image has
// there, and makes the marks of inner overlays in them, in a process of the container's
// cgroups.
//
// How much that is the image decides, or an earlier life of the container. The work, the
// kernel's memory for it and, in a tmpfs, what was copied count for the container; and who
// gives a Create up ends the process. The process stays in the host's namespaces and gets
// open files alone, so that no container can look into it: it may be Go, where others are
// programs of system calls (package program).
//
// What does not belong here: which folders are filled, and where they are, which package
// mount knows; how files are copied (package tree) and marks made (package whiteout).
package fill

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
	"sysbox/runtime/tree"
	"sysbox/runtime/whiteout"
)

// The bounds of what is copied for one container. A copy makes as much as the image has,
// once for each container. The image of a Kubernetes node, or of a machine whose Docker has
// a dozen images, has some 100,000 files of 10 GB. More than these is not copied in the two
// minutes that kubelet has for a Create.
const (
	maxFiles = 1_000_000
	maxBytes = 64 << 30
)

// Filler fills the folders of one container, with bounds for all together. It is not for
// several goroutines.
type Filler struct {
	// Join opens what a process joins the container's cgroups with: version 1 tasks files and
	// the version 2 folder, nil without one. The Filler closes them.
	Join func() (tasks []*os.File, unified *os.File, err error)
	// UID and GID are the host's ids that own what is made, where what is copied has no
	// owner of its own.
	UID, GID uint32

	used remaining
}

// left is what a container may yet have.
type remaining struct {
	tree.Budget
	Marks int // records of lists
}

// Copy is [tree.Copy], up to 1,000,000 files and 64 GiB for all calls together. Of an
// error, which comes from another process, there are the text and the errno.
func (f *Filler) Copy(ctx context.Context, from, to *os.File) error {
	return f.run(ctx, jobCopy, from, to)
}

// Restore is [whiteout.Restore], up to [whiteout.Max] records for all calls together. The
// error is as that of Copy.
func (f *Filler) Restore(ctx context.Context, dir *os.File) error {
	if has, err := whiteout.Has(dir); !has || err != nil {
		return err // the usual case, which costs a system call
	}
	return f.run(ctx, jobRestore, dir, dir)
}

// run has a process do a job, and waits for its end. The calling thread must be one that
// outlives the process, see [program.Start].
func (f *Filler) run(ctx context.Context, job string, from, to *os.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	budget := remaining{tree.Budget{Files: maxFiles - f.used.Files, Bytes: maxBytes - f.used.Bytes}, whiteout.Max - f.used.Marks}
	text, status, err := f.process(ctx, request{job, os.Getpid(), f.UID, f.GID, budget}, from, to)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("in a process of the container's cgroups: %w", err)
	}
	var a result
	if json.Unmarshal(text, &a) != nil {
		return endedEarly(status)
	}
	f.used = remaining{tree.Budget{Files: maxFiles - a.Remaining.Files, Bytes: maxBytes - a.Remaining.Bytes}, whiteout.Max - a.Remaining.Marks}
	if a.TooLarge {
		return fmt.Errorf("%s (for one container, %d files and %d GiB); have less there in the image, or mount a volume in its place", a.Error, maxFiles, maxBytes>>30)
	}
	if a.Error != "" {
		return &jobError{a.Error, a.Errno}
	}
	return nil
}

// failed is an error of the process.
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

// early is the error of a process that has ended without an answer.
func endedEarly(status program.Status) error {
	how := fmt.Sprintf("with exit status %d", status.Code)
	if status.Signal != 0 {
		how = "by the signal " + unix.SignalName(status.Signal)
	}
	return fmt.Errorf("the process that does it ended early, %s; the container's limits of memory and of processes (linux.resources) hold for it: raise them, have less there in the image, or mount a volume in its place", how)
}
