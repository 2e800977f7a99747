package faults

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// printer keeps the first error.
type printer struct {
	out io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	_, err := fmt.Fprintf(p.out, format+"\n", args...)
	p.err = errors.Join(p.err, err)
}

// WriteText writes the report for people.
func (r Report) WriteText(out io.Writer) error {
	p := &printer{out: out}
	verdict := "PASSED"
	if !r.OK {
		verdict = "FAILED"
	}
	p.line("%s: %d users on %d workers, %d of them restless, %v, seed %d", verdict, r.Users, r.Workers, r.Restless, r.Elapsed.Round(time.Second), r.Seed)
	p.line("")
	r.table(p)
	p.line("gap: the longest silence of each pair of speaker and listener around a fault beyond the packet time of 20 ms, in ms: p50 / p99 / max")
	p.line("")
	if r.Served.Count > 0 {
		p.line("supervisor, from the new one's start, in ms: sockets served %s, workers adopted %s, all sockets back %s", r.Served, r.Adopted, r.Returned)
	}
	p.line("sessions lost %d, joins repeated %d, sockets that returned %d (away %s ms), DTLS restarts %d, TCP connections dialled again %d",
		r.Counts.SessionsLost, r.Counts.JoinsRepeated, r.Counts.SocketsReturned, r.Away, r.Counts.Handshakes, r.Counts.TCPRedials)
	p.line("index proof: %d RTP and %d RTCP indexes, %d roll-overs, %d used for other bytes, %d duplicates, %d not authentic, %d unchecked",
		r.Proof.RTP, r.Proof.RTCP, r.Proof.RollOvers, r.Proof.Clashes, r.Proof.Duplicates, r.Proof.Unauthentic, r.Proof.Unchecked)
	p.line("senders repeated %d packets; this program sent up to %.1f ms late (p99 %.1f ms); the kernel dropped %d datagrams of it",
		r.Repeats, float64(r.LateMax)/1e6, float64(r.LateP99)/1e6, r.Clients.KernelDrops)
	p.line("before and after: processes %v %v, descriptors %v %v, goroutines %v %v, MiB %v %v, zombies %d", r.Before.Processes, r.After.Processes,
		r.Before.Descriptors, r.After.Descriptors, r.Before.Goroutines, r.After.Goroutines, mebibytes(r.Before.Resident), mebibytes(r.After.Resident), r.After.Zombies)
	for _, t := range r.Targets {
		met := "met"
		if !t.Met {
			met = "MISSED"
		}
		p.line("target %s: %.1f ms of %d ms, %s", t.What, float64(t.Got)/1e6, t.Limit.Milliseconds(), met)
	}
	for _, remark := range r.Remarks {
		p.line("remark: %s", remark)
	}
	for _, fault := range r.Faults {
		p.line("FAULT: %s", fault)
	}
	return p.err
}

// table has a row for each kind of fault and one for none.
func (r Report) table(p *printer) {
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	t := &printer{out: table}
	t.line("fault\tdone\tnot survived\tgap\tgap, TCP\tlost\tlost, TCP\tmessages\tall heard after")
	row := func(name string, s Strikes) {
		t.line("%s\t%d\t%d\t%s\t%s\t%d\t%d\t%d\t%s", name, s.Done, s.Failed, s.Gap, s.TCP, s.Lost, s.LostTCP, s.Messages, s.Audible)
	}
	for _, kind := range Kinds() {
		if s, ok := r.Strikes[kind]; ok {
			row(string(kind), s)
		}
	}
	row("none", Strikes{Gaps: r.Control})
	p.err = errors.Join(p.err, t.err, table.Flush())
}

func mebibytes(all map[string]int64) map[string]int64 {
	out := map[string]int64{}
	for name, n := range all {
		out[name] = n >> 20
	}
	return out
}
