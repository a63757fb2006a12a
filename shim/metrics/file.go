// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A few lines here read the statistics; the tests compare them with upstream's packages
// cgroup1 and cgroup2. Those would bring in an eBPF library and others, an eighth of the
// binary, and each shim maps every page of it.

// statDir is the directory of a cgroup. It keeps the first error. A missing file is not an
// error: kernels and hosts differ in what they count.
type statDir struct {
	path string
	err  error
}

func (d *statDir) read(name string) (string, bool) {
	b, err := os.ReadFile(d.path + "/" + name)
	switch {
	case err == nil:
		return strings.TrimSuffix(string(b), "\n"), true
	case !gone(err) && !errors.Is(err, unix.EOPNOTSUPP): // pressure files fail like this where PSI is off
		d.fail(err)
	}
	return "", false
}

func (d *statDir) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// number reads a file with one number; top replaces "max". It returns 0 if the file is
// missing or the number is negative.
func (d *statDir) number(name string, top uint64) uint64 {
	s, ok := d.read(name)
	if !ok {
		return 0
	}
	v, err := parseStat(s, top)
	if err != nil {
		d.fail(fmt.Errorf("%s/%s: %w", d.path, name, err))
	}
	return v
}

func parseStat(s string, top uint64) (uint64, error) {
	s = strings.TrimSpace(s)
	if s == "max" {
		return top, nil
	}
	if strings.HasPrefix(s, "-") {
		_, err := strconv.ParseInt(s, 10, 64)
		return 0, err
	}
	return strconv.ParseUint(s, 10, 64)
}

// fill sets the numbers of a message from a file of lines of key and value. The keys are the
// names of the fields without underscores, except for those in names. It reports whether the
// file exists.
func (d *statDir) fill(file string, m proto.Message, names map[string]string) bool {
	s, ok := d.read(file)
	if !ok {
		return false
	}
	values := make(map[string]uint64, 64)
	for line := range strings.SplitSeq(s, "\n") {
		key, value, ok := strings.Cut(line, " ")
		if !ok {
			continue
		}
		v, err := parseStat(value, math.MaxUint64)
		if err != nil {
			d.fail(fmt.Errorf("%s/%s: %s: %w", d.path, file, key, err))
			continue
		}
		if n := names[key]; n != "" {
			key = n
		}
		values[plainName(key)] = v
	}
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Kind() != protoreflect.Uint64Kind || f.IsList() {
			continue
		}
		if v, ok := values[plainName(string(f.Name()))]; ok {
			r.Set(f, protoreflect.ValueOfUint64(v))
		}
	}
	return true
}

func plainName(s string) string { return strings.ReplaceAll(s, "_", "") }

// rdma calls f with the device and the counts of each line; "max" becomes the highest number.
func (d *statDir) rdma(file string, f func(device string, handles, objects uint32)) {
	s, _ := d.read(file)
	for line := range strings.SplitSeq(s, "\n") {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		counts := map[string]uint32{}
		for _, kv := range fields[1:] {
			k, v, _ := strings.Cut(kv, "=")
			n, err := parseStat(v, math.MaxUint32)
			if err != nil || n > math.MaxUint32 {
				d.fail(fmt.Errorf("%s/%s: %q is not a count", d.path, file, kv))
				return
			}
			counts[k] = uint32(n)
		}
		f(fields[0], counts["hca_handle"], counts["hca_object"])
	}
}

// hugePageSizes are the sizes that the kernel counts in a cgroup, in the form of its file
// names: "2MB", "1GB".
func hugePageSizes(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var sizes []string
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "hugetlb.")
		size, _, _ := strings.Cut(rest, ".")
		if ok && !slices.Contains(sizes, size) {
			sizes = append(sizes, size)
		}
	}
	slices.Sort(sizes)
	return sizes, nil
}

// gone reports whether an error means that the cgroup was removed: ENOENT from open,
// ENODEV from a file that was open before.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
}

func exists(dir string) bool {
	_, err := os.Lstat(dir)
	return err == nil
}
