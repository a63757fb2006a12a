// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/events"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/typeurl/v2"
)

const snapshotter = "overlayfs"

// The phases that are compared. All are seen from the client, so containerd's
// own work is in them.
const (
	phaseCreate = "create" // NewTask: the shim's start, and Create
	phaseStart  = "start"
	phaseRun    = "run" // the two together
	phaseExec   = "exec"
	phaseKill   = "kill" // SIGKILL until the exit is told
	phaseDelete = "delete"
	phaseEnd    = "kill+delete" // the two together
)

// The parts of phases, by the marks between them.
const (
	partStartAction  = "create: shim's start"
	partCreate       = "create: Create"
	partCreateRest   = "create: containerd"
	partStart        = "start: Start"
	partStartRest    = "start: containerd"
	partDelete       = "delete: Delete"
	partLeave        = "delete: Shutdown, shim leaves"
	partDeleteAction = "delete: shim's delete"
)

// box is one container while it is measured.
type box struct {
	d         *daemon
	id        string
	container containerd.Container
	task      containerd.Task
}

// cycle is the life of one container, by phase and part.
func (d *daemon) cycle(ctx context.Context, t *target, id string) (_ map[string]time.Duration, err error) {
	ctx = namespaces.WithNamespace(ctx, namespace)
	b, err := d.newBox(ctx, t, id)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.remove(ctx)) }()
	s := map[string]time.Duration{}

	begin := time.Now()
	if b.task, err = b.container.NewTask(ctx, cio.NullIO); err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	created := time.Now()
	exited, err := b.task.Wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait: %w", err)
	}
	starting := time.Now()
	if err := b.task.Start(ctx); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	started := time.Now()
	s[phaseCreate], s[phaseStart] = created.Sub(begin), started.Sub(starting)
	s[phaseRun] = s[phaseCreate] + s[phaseStart]

	if s[phaseExec], err = b.exec(ctx, "e"); err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}

	killing := time.Now()
	if err := b.task.Kill(ctx, syscall.SIGKILL); err != nil {
		return nil, fmt.Errorf("kill: %w", err)
	}
	if err := (<-exited).Error(); err != nil {
		return nil, fmt.Errorf("wait: %w", err)
	}
	killed := time.Now()
	if _, err := b.task.Delete(ctx); err != nil {
		return nil, fmt.Errorf("delete: %w", err)
	}
	deleted := time.Now()
	b.task = nil
	s[phaseKill], s[phaseDelete], s[phaseEnd] = killed.Sub(killing), deleted.Sub(killed), deleted.Sub(killing)

	m := d.marks
	if at, ok := m.take(markStarted, id); ok {
		s[partStartAction] = at.Sub(begin)
		if made, ok := m.take(markCreate, id); ok {
			s[partCreate], s[partCreateRest] = made.Sub(at), created.Sub(made)
		}
	}
	if at, ok := m.take(markStart, id); ok {
		s[partStart], s[partStartRest] = at.Sub(starting), started.Sub(at)
	}
	if at, ok := m.take(markGone, id); ok {
		s[partDelete] = at.Sub(killed)
		if left, ok := m.take(markLeft, id); ok {
			s[partLeave] = left.Sub(at)
		}
	}
	if at, ok := m.take(markDelete, id); ok {
		s[partDeleteAction] = deleted.Sub(at)
	}
	return s, nil
}

func (d *daemon) newBox(ctx context.Context, t *target, id string) (*box, error) {
	c, err := d.client.NewContainer(ctx, id,
		containerd.WithImage(d.image),
		containerd.WithSnapshotter(snapshotter),
		containerd.WithNewSnapshot(id, d.image),
		containerd.WithRuntime(t.Runtime, t.options),
		containerd.WithNewSpec(oci.WithImageConfig(d.image), oci.WithProcessArgs("/bin/sleep", "1000000")),
	)
	if err != nil {
		return nil, fmt.Errorf("make the container's record: %w", err)
	}
	return &box{d: d, id: id, container: c}, nil
}

// remove takes away what is left, also after the bench was interrupted.
func (b *box) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if b.task != nil {
		if _, err := b.task.Delete(ctx, containerd.WithProcessKill); err != nil {
			return fmt.Errorf("remove the task %s: %w", b.id, err)
		}
	}
	if err := b.container.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
		return fmt.Errorf("remove the container %s: %w", b.id, err)
	}
	return nil
}

// exec times /bin/true from the call until its exit is told.
func (b *box) exec(ctx context.Context, id string) (took time.Duration, err error) {
	spec, err := b.container.Spec(ctx)
	if err != nil {
		return 0, err
	}
	process := *spec.Process
	process.Args = []string{"/bin/true"}
	begin := time.Now()
	p, err := b.task.Exec(ctx, id, &process, cio.NullIO)
	if err != nil {
		return 0, err
	}
	exited, err := p.Wait(ctx)
	if err != nil {
		return 0, err
	}
	if err := p.Start(ctx); err != nil {
		return 0, err
	}
	status := <-exited
	took = time.Since(begin)
	if code, _, err := status.Result(); err != nil || code != 0 {
		return 0, errors.Join(err, fmt.Errorf("/bin/true exited with %d", code))
	}
	_, err = p.Delete(ctx)
	return took, err
}

// containerID of an event of tasks, "" if it has none or is an exec's.
func containerID(a typeurl.Any) string {
	v, err := typeurl.UnmarshalAny(a)
	if err != nil {
		return ""
	}
	switch e := v.(type) {
	case *events.TaskCreate:
		return e.ContainerID
	case *events.TaskStart:
		return e.ContainerID
	case *events.TaskDelete:
		return e.ContainerID
	}
	return ""
}
