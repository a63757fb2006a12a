// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"bytes"
	"encoding/binary"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sysinfo answers sysinfo(2) with the container's memory, processes and uptime.
func sysinfo(w *worker, c *call) response {
	var host unix.Sysinfo_t
	if err := unix.Sysinfo(&host); err != nil {
		return failure(err)
	}
	total, unit := uint64(host.Totalram), uint64(max(host.Unit, 1))
	f := w.server.usage()
	limit, used := f.limit, f.used
	if limit != 0 && limit < total*unit {
		limit /= unit
		used = min(used/unit, limit)
		host.Totalram, host.Freeram = limit, limit-used
		host.Sharedram, host.Bufferram = 0, 0
		host.Totalswap, host.Freeswap = 0, 0
		host.Totalhigh, host.Freehigh = 0, 0
	}
	if f.processes != 0 {
		host.Procs = uint16(min(f.processes, 1<<16-1))
	}
	host.Uptime += c.bootOffset()
	if c.arch == unix.AUDIT_ARCH_I386 || c.arch == unix.AUDIT_ARCH_ARM {
		return writeResponse(c.write(c.args[0], narrow(&host)))
	}
	return writeResponse(c.write(c.args[0], bytesOf(&host)))
}

// usage is a cgroup's usage at a point in time. Reading it costs more than the rest of a call.
type usage struct {
	limit, used, processes uint64
	at                     time.Time
}

// usageAge is how old a usage may be.
const usageAge = 20 * time.Millisecond

func (s *Server) usage() *usage {
	if f := s.lastUsage.Load(); f != nil && time.Since(f.at) < usageAge {
		return f
	}
	f := &usage{processes: s.cfg.Processes(), at: time.Now()}
	f.limit, f.used = s.cfg.Memory()
	s.lastUsage.Store(f)
	return f
}

func writeResponse(err error) response {
	if err != nil {
		return failure(err)
	}
	return response{}
}

// ownTime is the target of the link to the shim's time namespace, which is the host's. (To follow
// the link takes twice as long.)
var ownTime = sync.OnceValue(func() string {
	text, _ := os.Readlink("/proc/self/ns/time")
	return text
})

// inOwnTime reports whether the caller is in the host's time namespace.
func (c *caller) inOwnTime() bool {
	var buf [64]byte
	n := 0
	err := c.withHandle(func(dir int) (err error) {
		n, err = unix.Readlinkat(dir, "ns/time", buf[:])
		return err
	})
	return err != nil || string(buf[:n]) == ownTime()
}

// bootOffset returns how many seconds the caller's boot-time clock is ahead of that of the host,
// time_namespaces(7).
func (c *caller) bootOffset() int64 {
	if c.inOwnTime() {
		return 0
	}
	fd, err := c.file("timens_offsets", unix.O_RDONLY)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	buf := make([]byte, 256)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(buf[:n]) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "boottime" {
			secs, _ := strconv.ParseInt(string(f[1]), 10, 64)
			return secs
		}
	}
	return 0
}

// narrow returns struct sysinfo for 32-bit callers, with a unit large enough for the sizes to
// fit.
func narrow(i *unix.Sysinfo_t) []byte {
	unit, shift := uint64(max(i.Unit, 1)), 0
	for largest := max(uint64(i.Totalram), uint64(i.Totalswap)) * unit >> shift; largest>>32 != 0; largest >>= 1 {
		shift++
	}
	size := func(n uint64) uint32 { return uint32(n * unit >> shift) }
	b := binary.LittleEndian.AppendUint32(nil, uint32(i.Uptime))
	for _, l := range i.Loads {
		b = binary.LittleEndian.AppendUint32(b, uint32(l))
	}
	for _, n := range []uint64{uint64(i.Totalram), uint64(i.Freeram), uint64(i.Sharedram), uint64(i.Bufferram), uint64(i.Totalswap), uint64(i.Freeswap)} {
		b = binary.LittleEndian.AppendUint32(b, size(n))
	}
	b = binary.LittleEndian.AppendUint16(b, i.Procs)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint32(b, size(uint64(i.Totalhigh)))
	b = binary.LittleEndian.AppendUint32(b, size(uint64(i.Freehigh)))
	b = binary.LittleEndian.AppendUint32(b, 1<<shift)
	return append(b, make([]byte, 8)...)
}
