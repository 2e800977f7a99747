package faults

import (
	"fmt"
	"time"

	"github.com/dspeak/sfu/cmd/loadgen/load"
)

// Report is what a run noticed.
type Report struct {
	OK       bool          `json:"ok"`
	Faults   []string      `json:"faults"`
	Remarks  []string      `json:"remarks,omitempty"`
	Users    int           `json:"users"`
	Workers  int           `json:"workers"`
	Restless int           `json:"restless"`
	Seed     uint64        `json:"seed"`
	Elapsed  time.Duration `json:"elapsedNs"`
	// Strikes are the measurements by kind of fault, Control those of windows of the
	// same call without a fault, between the faults.
	Strikes map[Kind]Strikes `json:"strikes"`
	Control Gaps             `json:"control"`
	// Supervisor times are from the new one's start.
	Served   Distribution `json:"supervisorServed"`
	Adopted  Distribution `json:"supervisorAdopted"`
	Returned Distribution `json:"socketsReturned"`

	Counts  Counts            `json:"counts"`
	Away    Distribution      `json:"socketAway"`
	Proof   Proof             `json:"proof"`
	Repeats uint64            `json:"packetsRepeatedBySenders"`
	Clients load.ClientFaults `json:"clients"`
	// LateP99 and LateMax are how late this program itself sent.
	LateP99 time.Duration `json:"senderLateP99Ns"`
	LateMax time.Duration `json:"senderLateMaxNs"`
	Before  State         `json:"before"`
	After   State         `json:"after"`
	Targets []Target      `json:"targets"`
}

// Gaps sums up windows.
type Gaps struct {
	// Gap is the longest silence of each pair beyond the packet time, over UDP.
	Gap Distribution `json:"gap"`
	// TCP is the same of pairs of whom one is over TCP and dials again by itself.
	TCP      Distribution `json:"gapOfTCP"`
	Lost     int64        `json:"packetsLost"`
	LostTCP  int64        `json:"packetsLostOfTCP"`
	Messages int          `json:"messages"`
}

// Strikes sums up one kind of fault.
type Strikes struct {
	Gaps
	Done   int `json:"done"`
	Failed int `json:"failed"`
	// Audible is the time from a fault until all pairs were heard.
	Audible Distribution `json:"audible"`
}

// Target is a time that the product promises on a quiet machine.
type Target struct {
	What  string        `json:"what"`
	Limit time.Duration `json:"limitNs"`
	Got   time.Duration `json:"gotNs"`
	Met   bool          `json:"met"`
}

func (w windows) gaps(messages int) Gaps {
	return Gaps{Gap: distribution(w.udp), TCP: distribution(w.tcp), Lost: w.lost, LostTCP: w.lostByTCP, Messages: messages}
}

// workerKinds are the faults of workers, of which no user may be told.
func workerKinds() []Kind { return []Kind{Kill, Segfault, Stop, Double, Restart} }

// finish fills the report once everything has ended.
func (r *Report) finish(run *run) {
	r.Users, r.Workers, r.Restless, r.Seed = len(run.call.users), run.cfg.Workers, run.cfg.Restless, run.cfg.Seed
	r.Elapsed, r.Before, r.After = run.elapsed, run.before, run.after
	var away []time.Duration
	r.Counts, away = run.call.tally.read()
	r.Away = distribution(away)
	r.Proof = run.call.proven()
	r.Repeats = run.call.pacer.repeats.Load()
	r.Clients = run.clients.Faults()
	r.LateP99, r.LateMax = run.call.pacer.lateness()
	if c := run.conductor; c != nil {
		r.fill(c)
		r.judge(c.notes)
		r.target()
		for _, t := range r.Targets {
			if run.cfg.Targets && !t.Met {
				run.notes.fault("%s: %v, the target is %v", t.What, t.Got, t.Limit)
			}
		}
	}
	r.Faults, r.Remarks = run.notes.texts()
	r.OK = len(r.Faults) == 0
}

// fill sums up the conductor's windows.
func (r *Report) fill(c *conductor) {
	r.Control = c.control.gaps(c.controlMessages)
	r.Strikes = map[Kind]Strikes{}
	for kind, s := range c.strikes {
		r.Strikes[kind] = Strikes{
			Gaps: s.windows.gaps(s.messages), Done: s.done, Failed: s.failed,
			Audible: distribution(s.audible),
		}
	}
	r.Served, r.Adopted = distribution(c.supervisors.served), distribution(c.supervisors.adopted)
	r.Returned = distribution(c.supervisors.returned)
}

// judge books what makes a run a failure beyond what was seen on the way.
func (r *Report) judge(n *notes) {
	for _, kind := range workerKinds() {
		if got := r.Strikes[kind].Messages; got > 0 {
			n.fault("%d signaling messages because of %s", got, kind)
		}
	}
	if r.Control.Messages > 0 {
		n.fault("%d signaling messages while nothing was done", r.Control.Messages)
	}
	if r.Counts.Handshakes > 0 {
		n.fault("%d DTLS datagrams after the handshakes", r.Counts.Handshakes)
	}
	if got := r.Strikes[Supervisor].Lost; got > 0 {
		n.fault("%d packets lost because of supervisors", got)
	}
	if r.Proof.Unchecked > 0 {
		n.fault("%d packets beyond the record of the index proof", r.Proof.Unchecked)
	}
	if r.Proof.Duplicates > 0 { // nobody here asks for a packet again
		n.fault("%d packets came twice", r.Proof.Duplicates)
	}
	if r.Clients.KernelDrops > 0 {
		n.remark("the kernel dropped %d datagrams before this program read them: some losses are its own", r.Clients.KernelDrops)
	}
}

// target compares the times with those that the product promises.
func (r *Report) target() {
	add := func(what string, limit time.Duration, count int, got time.Duration) {
		if count > 0 {
			r.Targets = append(r.Targets, Target{What: what, Limit: limit, Got: got, Met: got <= limit})
		}
	}
	kills, stops := r.Strikes[Kill].Gap, r.Strikes[Stop].Gap
	add("gap of worker kills, p50", 20*time.Millisecond, kills.Count, kills.P50)
	add("gap of worker kills, p99", 100*time.Millisecond, kills.Count, kills.P99)
	add("gap of hangs, longest", time.Second, stops.Count, stops.Max)
	add("supervisor: workers adopted, longest", time.Second, r.Adopted.Count, r.Adopted.Max)
	add("supervisor: sockets served again, longest", 2*time.Second, r.Served.Count, r.Served.Max)
	if up := r.Strikes[Upgrade].Gap; up.Count > 0 {
		add("gap of upgrades, p50", 20*time.Millisecond, up.Count, up.P50)
		add("gap of upgrades, p99", 100*time.Millisecond, up.Count, up.P99)
	}
}

// String is for one line.
func (d Distribution) String() string {
	if d.Count == 0 {
		return "-"
	}
	ms := func(t time.Duration) string { return fmt.Sprintf("%.1f", float64(t)/float64(time.Millisecond)) }
	return ms(d.P50) + " / " + ms(d.P99) + " / " + ms(d.Max)
}
