// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// strange are values that have caused trouble somewhere, for any string field.
var strange = []string{
	"", "/", ".", "..", "/..", "../../etc", "/a/../../b", "//x//", "/proc", "/proc/1/ns/net", "/proc/self/ns/user", "/proc/sys/kernel", "/sys", "/sys/fs/cgroup/x",
	"/dev", "/dev/null", "/dev/../dev/.sysbox", "/run", "/var/run/x", "/var/lib/docker", "a\x00b", "\xff", "A=b", "SYSBOX_SYSCONT_MODE=FALSE", "SYSBOX_HONOR_CAPS=TRUE",
	"bind", "rbind", "rshared", "rslave", "tmpfs", "proc", "sysfs", "cgroup", "overlay", "ro", "rro", "idmap", "idmap=uids=0-0-1;gids=0-0-1", "tmpcopyup",
	"user", "network", "pid", "mount", "time", "cgroup2", "a", "b", "c", "u", "p", "rwm", "m", "CAP_SYS_ADMIN", "RLIMIT_NOFILE", "SCHED_FIFO", "net.ipv4.ip_forward", "kernel.panic",
}

// mutate changes one field somewhere below v.
func mutate(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		mutate(r, v.Field(r.IntN(v.NumField())))
	case reflect.Pointer:
		if v.IsNil() || r.IntN(20) == 0 {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			} else {
				v.SetZero()
				return
			}
		}
		mutate(r, v.Elem())
	case reflect.Slice:
		switch n := r.IntN(6); {
		case v.Len() == 0 || n < 2:
			e := reflect.New(v.Type().Elem()).Elem()
			if v.Len() > 0 && n == 0 {
				e.Set(v.Index(r.IntN(v.Len())))
			}
			for range 4 {
				mutate(r, e)
			}
			v.Set(reflect.Append(v, e))
		case n == 2:
			i := r.IntN(v.Len())
			v.Set(reflect.AppendSlice(v.Slice(0, i), v.Slice(i+1, v.Len())))
		default:
			mutate(r, v.Index(r.IntN(v.Len())))
		}
	case reflect.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		mutate(r, k)
		mutate(r, e)
		v.SetMapIndex(k, e)
	case reflect.String:
		v.SetString(strange[r.IntN(len(strange))])
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt([]int64{0, 1, -1, 5, 8, 65536, 1 << 31, 1 << 40, -1 << 63}[r.IntN(9)])
	case reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint([]uint64{0, 1, 5, 65535, 65536, 1<<32 - 1, 1 << 31, 1 << 40}[r.IntN(8)])
	}
}

// TestRandomSpecs spoils real specs in a few places each: no plan that comes
// out is weaker than the policy, and all that is refused is a ValidationError.
func TestRandomSpecs(t *testing.T) {
	bases := []string{"minimal", "ctr", "docker", "cri-pause", "cri-container", "crio", "hardened"}
	plans := 0
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := readSpecOnce(t, bases[r.IntN(len(bases))])
		for range 1 + r.IntN(5) {
			// Half of the changes where most rules are.
			switch r.IntN(6) {
			case 0:
				mutate(r, reflect.ValueOf(&s.Mounts).Elem())
			case 1:
				mutate(r, reflect.ValueOf(&s.Process).Elem())
			case 2:
				mutate(r, reflect.ValueOf(&s.Linux).Elem())
			default:
				mutate(r, reflect.ValueOf(s).Elem())
			}
		}
		in := Input{Namespace: "n", ID: "i", Bundle: "/b", Spec: s, Facts: testFacts(), PodIDs: r.IntN(2) == 0}
		p, err := Make(in)
		if err != nil {
			var refusal *ValidationError
			if !errors.As(err, &refusal) || refusal.Field == "" || refusal.Reason == "" {
				t.Errorf("seed %d: not a whole ValidationError: %v", seed, err)
			}
			continue
		}
		plans++
		checkPolicy(t, in, p)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if plans < 500 {
		t.Errorf("only %d specs of 5000 led to a plan: the test has lost its grip", plans)
	}
}

var specCache = map[string]*specs.Spec{}

func readSpecOnce(t *testing.T, name string) *specs.Spec {
	if specCache[name] == nil {
		specCache[name] = readSpec(t, name)
	}
	s, err := clone(specCache[name])
	if err != nil {
		t.Fatal(err)
	}
	return s
}
