package load

import (
	"bytes"
	"fmt"
	"io"
	"time"
)

// WriteText writes the report for a person.
func (r Report) WriteText(w io.Writer) error {
	var b bytes.Buffer // its writes do not fail
	c := r.RTCPCounts
	fmt.Fprintf(&b, "users          %d in %d channels, %d speaker-listener pairs\n", r.Users, r.Channels, r.Pairs)
	fmt.Fprintf(&b, "join           %s until everyone hears everyone\n", r.JoinTime.Round(time.Millisecond))
	if j := r.Join; j.WorkerCPU > 0 {
		fmt.Fprintf(&b, "transports     %d, %.0f a second, %.0f a CPU second of the worker\n", j.Transports, j.PerSecond, j.PerCPUSecond)
		fmt.Fprintf(&b, "memory         %d KiB before the join, %d after, %d at the end; %d bytes a transport\n",
			j.ResidentBefore/1024, j.ResidentAfter/1024, r.WorkerResident/1024, j.BytesPerTransport)
	}
	if i := r.Idle; i != nil {
		fmt.Fprintf(&b, "idle           %s CPU in %s (%.2f %% of one), %d KiB, %d bytes a transport\n",
			i.WorkerCPU.Round(time.Millisecond), i.Elapsed.Round(time.Millisecond), 100*i.WorkerShare,
			i.Resident/1024, i.BytesPerTransport)
	}
	fmt.Fprintf(&b, "delivered      %d of %d packets, %d twice\n", r.Delivered, r.Expected, r.Duplicate)
	fmt.Fprintf(&b, "authenticated  %d checked, %d refused\n", r.Authenticated, r.Unauthenticated)
	fmt.Fprintf(&b, "strange        %d malformed, %d of unknown SSRC\n", r.Malformed, r.Unknown)
	fmt.Fprintf(&b, "rtcp           got %d sender and %d receiver reports, %d NACKs, %d others, %d malformed; sent %d and %d reports\n",
		c.SenderReports, c.ReceiverReports, c.NACKs, c.Other, c.Malformed, c.SenderReportsSent, c.ReceiverReportsSent)
	fmt.Fprintf(&b, "latency        p50 %s, p90 %s, p99 %s, p99.9 %s, max %s\n",
		r.LatencyP50, r.LatencyP90, r.LatencyP99, r.LatencyP999, r.LatencyMax)
	if r.LeastShare < 1 {
		fmt.Fprintf(&b, "listeners      got between %.1f and %.1f %% of their packets\n", 100*r.LeastShare, 100*r.MostShare)
	}
	if c := r.Control; c != nil {
		fmt.Fprintf(&b, "control        %d calls, p50 %s, p99 %s, max %s; %d failed\n", c.Calls, c.LatencyP50, c.LatencyP99, c.LatencyMax, c.Failed)
	}
	fmt.Fprintf(&b, "worker         %s CPU (%.0f %% of one), %s per forwarded packet\n",
		r.WorkerCPU.Round(time.Millisecond), 100*r.WorkerShare, r.CPUPerForwarded)
	if f := r.Floor; f != nil {
		fmt.Fprintf(&b, "floor          %d of %d packets, %s CPU, %s per packet, latency p50 %s, p99 %s\n",
			f.Delivered, f.Expected, f.CPU.Round(time.Millisecond), f.CPUPerPacket, f.LatencyP50, f.LatencyP99)
		fmt.Fprintf(&b, "ratio          %.2f: a forwarded packet's cost to that of a bare sendmmsg\n", f.Ratio)
	}
	fmt.Fprintf(&b, "generator      %s CPU, receiving thread %.0f %%, sending thread %.0f %%, late p99 %s, max %s; %d kernel drops, %d write errors\n",
		r.GeneratorCPU.Round(time.Millisecond), 100*r.EngineShare, 100*r.PacerShare,
		r.PacerLateP99, r.PacerLate.Round(time.Microsecond), r.KernelDrops, r.WriteErrors)
	if len(r.Rounds) > 1 {
		r.writeRounds(&b)
	}
	for _, why := range r.Invalid {
		fmt.Fprintf(&b, "INVALID        %s\n", why)
	}
	for _, why := range r.Doubtful {
		fmt.Fprintf(&b, "DOUBTFUL       %s\n", why)
	}
	if _, err := b.WriteTo(w); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (r Report) writeRounds(b *bytes.Buffer) {
	for i, round := range r.Rounds {
		fmt.Fprintf(b, "round %-8d %d of %d packets, p50 %s, p99 %s, worker %s a packet", i+1,
			round.Delivered, round.Expected, round.LatencyP50, round.LatencyP99, round.CPUPerForwarded)
		if r.Floor != nil {
			fmt.Fprintf(b, ", floor %s, ratio %.2f", round.FloorCPUPerPacket, round.Ratio)
		}
		b.WriteByte('\n')
	}
}
