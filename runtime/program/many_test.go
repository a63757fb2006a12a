// SPDX-License-Identifier: Apache-2.0

package program

import (
	"io"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// 200 at once: all exit as told, their waiters cost no threads, and no descriptor is left.
func TestMany(t *testing.T) {
	fds := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	null(t) // opens the poller
	start(t, Program{Exit(0)})
	before := fds()
	r, w := pipe(t)
	var started, ended sync.WaitGroup
	for i := range 200 {
		started.Add(1)
		ended.Go(func() {
			c, err := Start(append(Prelude(os.Getpid()), wait, Exit(i)), Options{Files: []File{{r, 0}}})
			started.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			exit(t, c.Process, i)
			if _, err := c.Next(soon()); err != io.EOF {
				t.Error(err)
			}
		})
	}
	started.Wait()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil || len(threads) > 50 {
		t.Errorf("%d threads for 200 waiters, %v", len(threads), err)
	}
	if _, err := w.Write(make([]byte, 200)); err != nil {
		t.Fatal(err)
	}
	ended.Wait()
	r.Close()
	w.Close()
	if after := fds(); after > before {
		t.Errorf("%d descriptors are open, %d before", after, before)
	}
}

func BenchmarkExit(b *testing.B) {
	p := Program{Exit(0)}
	bench(b, p)
}

func BenchmarkExecStatic(b *testing.B) {
	bench(b, Program{{Nr: unix.SYS_EXECVE, Args: []Arg{Str(static(b)), Strs{"true"}, Strs{}}}})
}

func BenchmarkFork(b *testing.B) {
	p := append(Prelude(os.Getpid()), Fork("pid", "child", 0, -1), Report("", 1, "pid"), Exit(0), Exit(0))
	p[len(p)-1].Label = "child"
	for b.Loop() {
		c, err := Start(p, Options{})
		if err != nil {
			b.Fatal(err)
		}
		child, err := Adopt(int(next(b, c, 1)))
		if err != nil {
			b.Fatal(err)
		}
		exit(b, child, 0)
		exit(b, c.Process, 0)
		child.Close()
		c.Close()
	}
}

func BenchmarkCompile(b *testing.B) {
	p := append(Prelude(1), Fork("pid", "child", 0, -1), Report("", 1, "pid"), Exit(0), Exit(0))
	p[len(p)-1].Label = "child"
	for b.Loop() {
		if _, err := p.Compile(runtime.GOARCH); err != nil {
			b.Fatal(err)
		}
	}
}

func bench(b *testing.B, p Program) {
	for b.Loop() {
		c, err := Start(p, Options{})
		if err != nil {
			b.Fatal(err)
		}
		exit(b, c.Process, 0)
		c.Close()
	}
}
