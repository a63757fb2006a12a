// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// The systemd driver asks the systemd of the host for a transient scope with
// Delegate=yes and then writes the limits itself, as with cgroupfs. Limits for
// which systemd has a property are also set there, since systemd writes its own
// values again on daemon-reload.

// startScope makes the scope and waits until systemd has finished. systemd moves holder
// into it, and kills it if the scope is stopped.
func startScope(loc location, l *Layout, r *specs.LinuxResources, rules []rule, holder int) error {
	if holder <= 0 {
		return fmt.Errorf("scope %s: systemd needs a process for it", loc.unit)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := systemd.NewSystemConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("the systemd cgroup driver cannot reach systemd over D-Bus; use the cgroupfs driver on hosts without systemd: %w", err)
	}
	defer conn.Close()
	// A failed scope of the same name, left by a crash, would prevent the start.
	_ = conn.ResetFailedUnitContext(ctx, loc.unit) // usually there is none
	done := make(chan string, 1)
	if _, err := conn.StartTransientUnitContext(ctx, loc.unit, "fail", scopeProperties(loc, l, r, rules, holder), done); err != nil {
		return fmt.Errorf("start scope %s: %w", loc.unit, err)
	}
	select {
	case s := <-done:
		if s != "done" {
			return fmt.Errorf("start scope %s: systemd says %q; see journalctl -u %s", loc.unit, s, loc.unit)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("start scope %s: no answer from systemd: %w", loc.unit, ctx.Err())
	}
}

// stopUnit stops a scope; a scope that does not exist is a success.
func stopUnit(ctx context.Context, unit string) error {
	conn, err := systemd.NewSystemConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("stop scope %s: %w", unit, err)
	}
	defer conn.Close()
	done := make(chan string, 1)
	if _, err := conn.StopUnitContext(ctx, unit, "replace", done); err != nil {
		var e dbus.Error
		if errors.As(err, &e) && e.Name == "org.freedesktop.systemd1.NoSuchUnit" {
			return nil
		}
		return fmt.Errorf("stop scope %s: %w", unit, err)
	}
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("stop scope %s: no answer from systemd: %w", unit, ctx.Err())
	}
	_ = conn.ResetFailedUnitContext(ctx, unit) // it is gone unless it failed
	return nil
}

// updateUnit sends new limits to systemd.
func updateUnit(unit string, l *Layout, r *specs.LinuxResources, rules []rule) error {
	props := resourceProperties(l, r)
	if len(r.Devices) > 0 {
		props = append(props, deviceProperties(rules)...)
	}
	if len(props) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := systemd.NewSystemConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("update scope %s: %w", unit, err)
	}
	defer conn.Close()
	if err := conn.SetUnitPropertiesContext(ctx, unit, true, props...); err != nil {
		return fmt.Errorf("update scope %s: %w", unit, err)
	}
	return nil
}

func property(name string, value any) systemd.Property {
	return systemd.Property{Name: name, Value: dbus.MakeVariant(value)}
}

// scopeProperties describes the scope (org.freedesktop.systemd1(5)).
func scopeProperties(loc location, l *Layout, r *specs.LinuxResources, rules []rule, holder int) []systemd.Property {
	p := []systemd.Property{
		systemd.PropDescription("sysbox container " + strings.TrimSuffix(loc.unit, ".scope")),
		systemd.PropSlice(loc.slice),
		property("PIDs", []uint32{uint32(holder)}),
		property("Delegate", true),
		property("DefaultDependencies", false),
		property("MemoryAccounting", true),
		property("CPUAccounting", true),
		property("TasksAccounting", true),
		property(map[bool]string{true: "IOAccounting", false: "BlockIOAccounting"}[l.Mode() == "v2"], true),
	}
	p = append(p, resourceProperties(l, r)...)
	return append(p, deviceProperties(rules)...)
}

// resourceProperties are the limits that systemd also writes.
func resourceProperties(l *Layout, r *specs.LinuxResources) []systemd.Property {
	var p []systemd.Property
	v2 := l.Mode() == "v2"
	if m := r.Memory; m != nil {
		if limit := deref(m.Limit); limit != 0 {
			// MemoryMax is the v2 name, MemoryLimit the v1 one; -1 is infinity.
			p = append(p, property(map[bool]string{true: "MemoryMax", false: "MemoryLimit"}[v2], uint64(limit)))
		}
		if res := deref(m.Reservation); v2 && res > 0 {
			p = append(p, property("MemoryLow", uint64(res)))
		}
		limit, swap := deref(m.Limit), deref(m.Swap)
		switch {
		case !v2:
		case swap < 0:
			p = append(p, property("MemorySwapMax", uint64(math.MaxUint64)))
		case swap >= limit && limit > 0:
			p = append(p, property("MemorySwapMax", uint64(swap-limit)))
		}
	}
	if c := r.CPU; c != nil {
		if s := deref(c.Shares); s != 0 && v2 {
			p = append(p, property("CPUWeight", cpuWeight(s)))
		} else if s != 0 {
			p = append(p, property("CPUShares", s))
		}
		p = append(p, quotaProperties(deref(c.Quota), deref(c.Period))...)
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		limit := uint64(max(*r.Pids.Limit, 1))
		if *r.Pids.Limit < 0 {
			limit = math.MaxUint64
		}
		p = append(p, property("TasksMax", limit))
	}
	return p
}

// quotaProperties rounds up to whole percents, as systemd does when it writes
// cpu.max, so that the limit that we write afterwards fits below.
func quotaProperties(quota int64, period uint64) []systemd.Property {
	if quota == 0 {
		return nil
	}
	if period == 0 {
		period = 100_000 // the default of the kernel
	}
	perSec := uint64(math.MaxUint64)
	if quota > 0 {
		const percent = 10_000
		perSec = (uint64(quota)*1_000_000/period + percent - 1) / percent * percent
	}
	p := []systemd.Property{property("CPUQuotaPerSecUSec", perSec)}
	if period != 100_000 { // systemd before 242 does not have the property
		p = append(p, property("CPUQuotaPeriodUSec", period))
	}
	return p
}

// deviceAllow is one entry of DeviceAllow, D-Bus type (ss).
type deviceAllow struct{ Path, Access string }

// deviceProperties keep systemd from allowing all devices on daemon-reload (v1).
// Rules that they cannot express are only in what we write ourselves.
func deviceProperties(rules []rule) []systemd.Property {
	var allow []deviceAllow
	v, err := toV1(rules)
	if err != nil || v.allow {
		// Not DevicePolicy=auto: systemd 252 keeps its old BPF program then.
		allow = []deviceAllow{{"char-*", "rwm"}, {"block-*", "rwm"}}
		v.exceptions = nil
	}
	for _, e := range v.exceptions {
		kind := map[byte]string{'b': "block", 'c': "char"}[e.kind]
		switch {
		case e.major < 0 && e.minor < 0:
			allow = append(allow, deviceAllow{kind + "-*", e.access.String()})
		case e.minor < 0:
			// systemd 255 accepts a number here; older versions need the name of the driver.
			if name := driverName(kind, e.major); name != "" {
				allow = append(allow, deviceAllow{kind + "-" + name, e.access.String()})
			}
		case e.major >= 0:
			allow = append(allow, deviceAllow{fmt.Sprintf("/dev/%s/%d:%d", kind, e.major, e.minor), e.access.String()})
		}
	}
	return []systemd.Property{property("DevicePolicy", "strict"), property("DeviceAllow", allow)}
}

// driverName finds the name for a major number in /proc/devices.
func driverName(kind string, major int64) string {
	s, err := readFile("/proc/devices")
	if err != nil {
		return ""
	}
	section := ""
	for line := range strings.SplitSeq(s, "\n") {
		switch f := strings.Fields(line); {
		case strings.HasSuffix(line, "devices:"):
			section = map[string]string{"Character": "char", "Block": "block"}[f[0]]
		case len(f) == 2 && section == kind && f[0] == itoa(major):
			return f[1]
		}
	}
	return ""
}
