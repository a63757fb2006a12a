package leak

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// machine are cgroups of the machine's own agents, which come and go.
func machine(path string) bool { return strings.Contains(path, "/process_api") }

// cgroups are those of all hierarchies but for those of strangers: a cgroup
// with processes of which none is to be seen belongs to another pid namespace.
// It is a stranger's in every hierarchy, by its path.
func cgroups(o Options) ([]string, error) {
	roots, err := hierarchies()
	if err != nil {
		return nil, err
	}
	ours := joined()
	foreign := map[string]bool{}
	found := map[string]string{} // whole paths to those below the root
	for _, root := range roots {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil // removed while we look
			}
			if machine(p) {
				return filepath.SkipDir
			}
			if o.Service != "" && strings.HasPrefix(d.Name(), o.Service) {
				return nil
			}
			path := strings.TrimPrefix(p, root)
			found[p] = path
			if path != "" && populated(p) && !holds(ours, path) {
				foreign[path] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var out []string
	for p, path := range found {
		if !foreign[path] {
			out = append(out, p)
		}
	}
	return out, nil
}

// hierarchies are the mount points of cgroup v1 and v2.
func hierarchies() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		mount, super, _ := strings.Cut(s.Text(), " - ")
		if f := strings.Fields(mount); len(f) > 4 && strings.HasPrefix(super, "cgroup") {
			out = append(out, f[4])
		}
	}
	return out, s.Err()
}

// populated tells whether there are processes in a cgroup or below it, as far
// as its hierarchy can tell: v2 and v1's pids can.
func populated(dir string) bool {
	if b, err := os.ReadFile(filepath.Join(dir, "cgroup.events")); err == nil {
		return strings.Contains(string(b), "populated 1")
	}
	b, err := os.ReadFile(filepath.Join(dir, "pids.current"))
	return err == nil && string(b) != "0\n"
}

// joined are the cgroups of the processes that are to be seen.
func joined() map[string]bool {
	out := map[string]bool{}
	list, err := pids()
	if err != nil {
		return out
	}
	for _, pid := range list {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
				out[f[2]] = true
			}
		}
	}
	return out
}

// holds tells whether one of the cgroups is path or below it.
func holds(cgroups map[string]bool, path string) bool {
	for c := range cgroups {
		if c == path || strings.HasPrefix(c, path+"/") {
			return true
		}
	}
	return false
}
