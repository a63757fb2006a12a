package private

import (
	"os"
	"strings"
)

// Mount is a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)). Package runtime/sys reads
// it as well, and is tested here.
type Mount struct {
	ID     string
	Device string // its file system's device number, as MAJOR:MINOR
	Root   string // the folder of the file system that is mounted
	Point  string
	Type   string
}

// Mounts are those of this process's mount namespace.
func Mounts() ([]Mount, error) { return MountsOf("self") }

// MountsOf are those of the mount namespace of a process, by its name in /proc.
func MountsOf(pid string) ([]Mount, error) {
	b, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []Mount
	for line := range strings.Lines(string(b)) {
		mount, super, _ := strings.Cut(line, " - ")
		f, kind := strings.Fields(mount), strings.Fields(super)
		if len(f) > 4 && len(kind) > 0 {
			out = append(out, Mount{ID: f[0], Device: f[2], Root: plain.Replace(f[3]), Point: plain.Replace(f[4]), Type: kind[0]})
		}
	}
	return out, nil
}

// plain has what mountinfo escapes.
var plain = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
