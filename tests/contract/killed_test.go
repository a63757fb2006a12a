// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"math/rand/v2"
	"strings"
	"time"
)

// A moment is a call of the task service during which the shim is killed.
type moment struct {
	name string
	// make brings a container to where the call is due.
	make func(r *rig, id string) *box
	call func(b *box) string
	// points is how many times our shim is killed during the call, besides after it.
	points int
}

func justStarted(r *rig, id string) *box { return r.new(id, sleep) }
func notStarted(r *rig, id string) *box  { return r.created(id, sleep...) }
func isRunning(r *rig, id string) *box   { return r.sleeper(id) }

func withExec(r *rig, id string) *box {
	b := r.sleeper(id)
	b.ok(b.add("e", streams{}, sleep...))
	return b
}

func isPaused(r *rig, id string) *box {
	b := r.sleeper(id)
	b.ok(b.pause())
	return b
}

func hasEnded(r *rig, id string) *box {
	b := r.running(id, "sh", "-c", "exit 5")
	b.wait("")
	return b
}

var moments = []moment{
	{"Create", justStarted, func(b *box) string { return b.create(streams{}) }, 6},
	{"Start", notStarted, func(b *box) string { return b.start("") }, 4},
	{"Exec", isRunning, func(b *box) string { return b.add("e", streams{}, "true") }, 1},
	{"Start of an exec", withExec, func(b *box) string { return b.start("e") }, 4},
	{"Kill", isRunning, func(b *box) string { return b.kill("", 9) }, 3},
	{"Kill of all", withExec, func(b *box) string { return b.killAll(9) }, 2},
	{"Delete", hasEnded, func(b *box) string { return b.delete("") }, 5},
	{"Delete of an exec", withExec, func(b *box) string { return b.delete("e") }, 1},
	{"Pause", isRunning, (*box).pause, 3},
	{"Resume", isPaused, (*box).resume, 3},
	{"Update", isRunning, func(b *box) string { return b.update(`{"pids":{"limit":100}}`) }, 1},
	{"Stats", isRunning, (*box).stats, 1},
	{"Pids", isRunning, (*box).pids, 1},
	{"State", isRunning, func(b *box) string { return b.state("") }, 1},
	{"Connect", isRunning, (*box).connect, 1},
	{"ResizePty", isRunning, func(b *box) string { return b.resize("", 80, 24) }, 1},
	{"CloseIO", isRunning, func(b *box) string { return b.closeStdin("") }, 1},
	{"Checkpoint", isRunning, (*box).checkpoint, 1},
	{"Shutdown", isRunning, (*box).shutdown, 1},
}

// killedCases kill the shim with -9 at every call, and remove what it left by the delete
// action, twice. Theirs is killed right after the call; ours also at points within it: what
// is to be seen must be the same at all of them. CRI-O never calls the delete action.
var killedCases = func() (out []testCase) {
	for _, m := range moments {
		out = append(out, testCase{name: "killed at " + m.name, only: []form{newForm, oldForm}, run: func(r *rig) { r.killAt(m) }})
	}
	return append(out,
		testCase{name: "killed while a caller waits", run: func(r *rig) {
			b := r.sleeper("box")
			waited := make(chan string)
			go func() { waited <- b.wait("") }()
			r.see("state", "%s", b.state(""))
			b.s.kill()
			r.see("wait", "%v", <-waited == "ok")
			r.see("delete action", "%s, %s", r.remove("box"), r.remove("box"))
			b.over = true
		}},
		testCase{name: "killed, and started anew without the delete action", run: func(r *rig) {
			b := r.sleeper("box")
			b.s.kill()
			b.over = true
			s, _ := r.start("box")
			again := r.boxOf(s, "box")
			outcome := again.create(streams{})
			r.see("create", "%v", outcome == "ok")
			if again.over = outcome != "ok"; !again.over {
				r.see("start", "%s", again.start(""))
			}
		}},
		testCase{name: "killed, and started anew after the delete action", run: func(r *rig) {
			b := r.sleeper("box")
			b.s.kill()
			b.over = true
			r.see("delete action", "%s", r.remove("box"))
			s, _ := r.start("box")
			again := r.boxOf(s, "box")
			r.see("create", "%s", again.create(streams{}))
			r.see("start", "%s", again.start(""))
			r.see("exec", "%s", func() string { again.exec("e", streams{}, "sh", "-c", "exit 4"); return again.wait("e") }())
		}},
	)
}()

func (r *rig) killAt(m moment) {
	r.t.Helper()
	// The first is killed after the call, and tells how long it takes.
	b := m.make(r, "box")
	begin := time.Now()
	m.call(b)
	took := time.Since(begin)
	answers := []string{r.afterKill(b)}
	points := m.points
	if !r.ours() {
		points = 0
	}
	random := rand.New(rand.NewPCG(1, uint64(len(m.name))))
	for i := range points {
		b := m.make(r, "box"+strings.Repeat("x", i+1))
		called := make(chan string, 1)
		go func() { called <- m.call(b) }()
		at := (float64(i) + random.Float64()) / float64(points)
		time.Sleep(time.Duration(at * float64(took)))
		answers = append(answers, r.afterKill(b))
		<-called
	}
	r.see("answers of the delete action", "%s", set(answers))
}

// afterKill kills a container's shim, and removes what it left.
func (r *rig) afterKill(b *box) string {
	r.t.Helper()
	b.s.kill()
	b.over, b.deleted = true, false
	return r.remove(b.id) + ", " + r.remove(b.id)
}
