// SPDX-License-Identifier: Apache-2.0

// Command bench measures how long containers take to run, execute a further
// process and go, and how much memory their shim needs: this runtime's beside
// runc's and crun's, all through one private containerd, in turns, so that
// whatever else the machine does hits all of them alike.
//
// It only measures. No figure makes it fail, since a limit that holds on one
// machine fails on another; checks of what must hold do not belong here.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/tests/peers"
)

type settings struct {
	rounds int
	memory int
	json   bool
	only   string
	path   string
	log    string
	// builds are further builds of our shim, by name.
	builds [][2]string
}

func main() {
	var o settings
	flag.IntVar(&o.rounds, "rounds", 30, "how often each runtime is measured; 2 is enough to see that all of it works")
	flag.IntVar(&o.memory, "memory", 3, "`rounds` of measuring memory, some seconds each, since a shim is let come to rest; at most -rounds")
	flag.BoolVar(&o.json, "json", false, "print every sample as JSON instead of a table")
	flag.StringVar(&o.only, "runtimes", "", "`names` of the runtimes to measure, with commas between them (default: all)")
	flag.StringVar(&o.path, "path", "", "`folders` where containerd, the shims, runc and crun are, as in PATH (default: built at the tests' versions, and kept)")
	flag.StringVar(&o.log, "log", "", "`file` for containerd's log (default: none is kept)")
	flag.Func("build", "`name=file` of another build of our shim to measure beside the others; may be given more than once", func(v string) error {
		name, file, ok := strings.Cut(v, "=")
		if !ok || name == "" || !filepath.IsAbs(file) {
			return errors.New("give a name, = and an absolute path")
		}
		o.builds = append(o.builds, [2]string{name, file})
		return nil
	})
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 {
		fmt.Fprintln(os.Stderr, "bench: there are no arguments, and -rounds is 1 or more; see -help")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o settings) error {
	res, err := measure(ctx, o)
	if err != nil {
		return err
	}
	if o.json {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(res)
	}
	_, err = os.Stdout.WriteString(res.table())
	return err
}

// measure lets every runtime have its turns.
func measure(ctx context.Context, o settings) (res result, err error) {
	var without []string
	if o.path == "" {
		if o.path, without, err = defaultPath(); err != nil {
			return res, err
		}
	}
	targets, skipped, err := find(o)
	if err != nil {
		return res, err
	}
	daemons, notes, err := startDaemons(ctx, o, targets)
	defer func() {
		for _, d := range daemons {
			if cerr := d.close(); err == nil {
				err = cerr
			}
		}
	}()
	if err != nil {
		return res, err
	}
	notes = slices.Concat(without, skipped, notes)
	res = result{Host: describeHost(), Rounds: o.rounds, Notes: notes, Runtimes: targets}
	for i := range o.rounds + 1 {
		// Who comes first changes: it pays for what the one before left to the
		// kernel's workers.
		for j := range targets {
			t := targets[(i+j)%len(targets)]
			s, err := t.daemon.cycle(ctx, t, fmt.Sprintf("%s-%d", t.Name, i))
			if err != nil {
				return res, fmt.Errorf("%s, round %d: %w", t.Name, i, err)
			}
			if i > 0 { // the first only fills caches
				t.add(s)
			}
		}
	}
	for i := range min(o.memory, o.rounds) {
		for _, t := range targets {
			s, err := t.daemon.memory(ctx, t, fmt.Sprintf("%s-m%d", t.Name, i))
			if err != nil {
				return res, fmt.Errorf("%s, memory, round %d: %w", t.Name, i, err)
			}
			t.addMemory(s)
		}
	}
	return res, nil
}

// defaultPath makes the programs, at the versions that the tests use. Without
// a crun the rest is still worth measuring; it adds a sentence.
func defaultPath() (path string, without []string, err error) {
	containerd, err := peers.Containerd(peers.Newest)
	if err != nil {
		return "", nil, err
	}
	runc, err := peers.Runc()
	if err != nil {
		return "", nil, err
	}
	shim, err := peers.Shim()
	if err != nil {
		return "", nil, err
	}
	dirs := []string{shim, containerd, runc}
	if dir, err := crun(); err == nil {
		dirs = append(dirs, dir)
	} else {
		without = []string{fmt.Sprintf("There is no crun: %v", err)}
	}
	return strings.Join(append(dirs, os.Getenv("PATH")), ":"), without, nil
}

// startDaemons starts one containerd for all, and gives crun another on hosts
// that it would refuse as they are.
func startDaemons(ctx context.Context, o settings, targets []*target) (all []*daemon, notes []string, err error) {
	common, err := startDaemon(ctx, o, "")
	if err != nil {
		return nil, nil, err
	}
	all = append(all, common)
	for _, t := range targets {
		t.daemon = common
		if t.Name != "crun" {
			continue
		}
		hide, err := hybrid()
		if err != nil {
			return all, nil, err
		}
		if hide == "" {
			continue
		}
		if t.daemon, err = startDaemon(ctx, o, hide); err != nil {
			return all, nil, err
		}
		all = append(all, t.daemon)
		notes = append(notes, fmt.Sprintf("crun has a containerd of its own, which does not see %s: crun refuses a hybrid host whose cgroup v2 has controllers.", hide))
	}
	return all, notes, nil
}

// describeHost is what the figures depend on.
func describeHost() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	release := unix.ByteSliceToString(u.Release[:])
	model := ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = ", " + strings.TrimSpace(v)
				break
			}
		}
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return "Linux " + release + model
	}
	return fmt.Sprintf("Linux %s, %d CPUs%s", release, set.Count(), model)
}
