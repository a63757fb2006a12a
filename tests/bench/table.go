// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// result is all that a run has found out, and what -json prints.
type result struct {
	Host     string    `json:"host"`
	Rounds   int       `json:"rounds"`
	Notes    []string  `json:"notes,omitempty"`
	Runtimes []*target `json:"runtimes"`
}

var (
	phases  = []string{phaseRun, phaseCreate, phaseStart, phaseExec, phaseEnd, phaseKill, phaseDelete}
	parts   = []string{partStartAction, partCreate, partCreateRest, partStart, partStartRest, partDelete, partLeave, partDeleteAction}
	moments = []string{momentStarted, momentExecs, momentRest}
)

// table is for people: medians, 90th percentiles, and how many times as long
// as a peer's median ours is.
func (r result) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; %d rounds; milliseconds, median and 90th percentile\n", r.Host, r.Rounds)
	for _, s := range r.Notes {
		fmt.Fprintln(&b, s)
	}
	r.section(&b, "phase", phases, milliseconds)
	b.WriteString("\nWhere the time goes\n")
	r.section(&b, "part", parts, milliseconds)
	b.WriteString("\nThe shim's memory (PSS) with one container, MiB\n")
	r.section(&b, "moment", moments, mebibytes)
	return b.String()
}

// section writes a row for each name, from what value finds of it.
func (r result) section(b *strings.Builder, title string, names []string, value func(*target, string) []float64) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\t", title)
	for _, t := range r.Runtimes {
		fmt.Fprintf(w, "%s\tp90\t", t.Name)
	}
	own := slices.IndexFunc(r.Runtimes, func(t *target) bool { return t.Name == ours })
	for i, t := range r.Runtimes {
		if own >= 0 && i != own {
			fmt.Fprintf(w, "%s/%s\t", ours, t.Name)
		}
	}
	fmt.Fprintln(w)
	for _, name := range names {
		fmt.Fprintf(w, "%s\t", name)
		for _, t := range r.Runtimes {
			v := value(t, name)
			fmt.Fprintf(w, "%s\t%s\t", number(v, 50), number(v, 90))
		}
		for i, t := range r.Runtimes {
			if own >= 0 && i != own {
				fmt.Fprintf(w, "%s\t", ratio(value(r.Runtimes[own], name), value(t, name)))
			}
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

func milliseconds(t *target, name string) []float64 {
	var out []float64
	for _, d := range t.Samples[name] {
		out = append(out, float64(d)/float64(time.Millisecond))
	}
	return out
}

func mebibytes(t *target, name string) []float64 {
	var out []float64
	for _, kib := range t.Memory[name] {
		out = append(out, float64(kib)/1024)
	}
	return out
}

// percentile by the nearest rank; the median of an even number is the mean of
// the two in the middle. v is not empty.
func percentile(v []float64, p int) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); p == 50 && n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[max(0, (len(v)*p+99)/100-1)]
}

func number(v []float64, p int) string {
	if len(v) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", percentile(v, p))
}

func ratio(a, b []float64) string {
	if len(a) == 0 || len(b) == 0 || percentile(b, 50) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", percentile(a, 50)/percentile(b, 50))
}
