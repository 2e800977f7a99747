package load

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"
)

// Report is what a run measured. Durations are nanoseconds in JSON. With several
// rounds, latencies and costs per packet are the medians of the rounds; counts
// and times are sums, and LatencyMax is that of all packets.
type Report struct {
	Users     int           `json:"users"`
	Channels  int           `json:"channels"`
	Pairs     int           `json:"pairs"`
	JoinTime  time.Duration `json:"joinTimeNs"`
	Expected  uint64        `json:"expected"`
	Delivered uint64        `json:"delivered"`
	Duplicate uint64        `json:"duplicate"`
	// Authenticated packets had their SRTP protection checked in full.
	Authenticated   uint64        `json:"authenticated"`
	Unauthenticated uint64        `json:"unauthenticated"`
	Malformed       uint64        `json:"malformed"`
	Unknown         uint64        `json:"unknown"`
	RTCP            uint64        `json:"rtcp"`
	RTCPCounts      RTCPCounts    `json:"rtcpCounts"`
	WriteErrors     uint64        `json:"writeErrors"`
	LatencyP50      time.Duration `json:"latencyP50Ns"`
	LatencyP99      time.Duration `json:"latencyP99Ns"`
	LatencyMax      time.Duration `json:"latencyMaxNs"`
	// PacerLate is the longest that a packet was sent after its time.
	PacerLate time.Duration `json:"pacerLateNs"`
	// WorkerCPU is the CPU time of the measured processes in the counted time.
	WorkerCPU       time.Duration `json:"workerCpuNs"`
	WorkerResident  uint64        `json:"workerResidentBytes"`
	CPUPerForwarded time.Duration `json:"cpuPerForwardedNs"`
	// Floor is what the same packets cost a bare sending loop; nil without it.
	Floor *FloorReport `json:"floor,omitempty"`
	// Rounds are the windows one by one.
	Rounds []Round `json:"rounds"`
}

// FloorReport sums up the windows of the bare sending loop.
type FloorReport struct {
	Expected     uint64        `json:"expected"`
	Delivered    uint64        `json:"delivered"`
	CPU          time.Duration `json:"cpuNs"`
	CPUPerPacket time.Duration `json:"floorCpuPerPacketNs"`
	LatencyP50   time.Duration `json:"latencyP50Ns"`
	LatencyP99   time.Duration `json:"latencyP99Ns"`
	// Ratio is the median of the rounds' ratios: how many times the floor's cost
	// a forwarded packet costs the worker.
	Ratio float64 `json:"ratio"`
}

// Round is one window of the worker and, if asked for, the floor's after it.
type Round struct {
	Expected        uint64        `json:"expected"`
	Delivered       uint64        `json:"delivered"`
	LatencyP50      time.Duration `json:"latencyP50Ns"`
	LatencyP99      time.Duration `json:"latencyP99Ns"`
	LatencyMax      time.Duration `json:"latencyMaxNs"`
	WorkerCPU       time.Duration `json:"workerCpuNs"`
	CPUPerForwarded time.Duration `json:"cpuPerForwardedNs"`

	FloorExpected     uint64        `json:"floorExpected,omitempty"`
	FloorDelivered    uint64        `json:"floorDelivered,omitempty"`
	FloorCPU          time.Duration `json:"floorCpuNs,omitempty"`
	FloorCPUPerPacket time.Duration `json:"floorCpuPerPacketNs,omitempty"`
	FloorLatencyP50   time.Duration `json:"floorLatencyP50Ns,omitempty"`
	FloorLatencyP99   time.Duration `json:"floorLatencyP99Ns,omitempty"`
	Ratio             float64       `json:"ratio,omitempty"`
}

// median returns the middle of what get tells of each round, the lower one of two.
func median[T cmp.Ordered](rounds []Round, get func(Round) T) T {
	var all []T
	for _, r := range rounds {
		all = append(all, get(r))
	}
	if len(all) == 0 {
		var none T
		return none
	}
	slices.Sort(all)
	return all[(len(all)-1)/2]
}

// each returns d shared by n, zero for nothing.
func each(d time.Duration, n uint64) time.Duration {
	if n == 0 {
		return 0
	}
	return d / time.Duration(n)
}

// fill adds what the engine counted; it must have ended.
func (r *run) fill(report *Report) {
	e := r.engine
	report.Users, report.Channels, report.Pairs = len(r.users), r.cfg.Channels, r.cfg.Pairs()
	for _, u := range r.users {
		for _, p := range u.pairs {
			report.Duplicate += p.duplicate
		}
	}
	report.Authenticated, report.Unauthenticated = e.authenticated, e.unauthenticated
	report.Malformed, report.Unknown, report.RTCP = e.malformed, e.unknown, e.rtcp
	report.RTCPCounts = e.reports
	report.WriteErrors = e.writeErrors.Load()
	for i := range r.rounds {
		r.rounds[i].fill(e.tallies[i])
	}
	report.sum(r.rounds)
}

// fill adds what arrived in the round.
func (r *Round) fill(t tally) {
	r.Delivered = t.delivered
	r.LatencyP50, r.LatencyP99, r.LatencyMax = t.latency.quantile(0.5), t.latency.quantile(0.99), t.latency.highest
	r.CPUPerForwarded = each(r.WorkerCPU, r.Delivered)
	if t.floorLatency == nil {
		return
	}
	r.FloorDelivered = t.floorDelivered
	r.FloorLatencyP50, r.FloorLatencyP99 = t.floorLatency.quantile(0.5), t.floorLatency.quantile(0.99)
	r.FloorCPUPerPacket = each(r.FloorCPU, r.FloorDelivered)
	if r.FloorCPU > 0 && r.Delivered > 0 {
		r.Ratio = float64(r.WorkerCPU) / float64(r.Delivered) / (float64(r.FloorCPU) / float64(r.FloorDelivered))
	}
}

// sum adds up the rounds.
func (r *Report) sum(rounds []Round) {
	r.Rounds = rounds
	var floor FloorReport
	for _, round := range rounds {
		r.Expected += round.Expected
		r.Delivered += round.Delivered
		r.WorkerCPU += round.WorkerCPU
		r.LatencyMax = max(r.LatencyMax, round.LatencyMax)
		floor.Expected += round.FloorExpected
		floor.Delivered += round.FloorDelivered
		floor.CPU += round.FloorCPU
	}
	r.LatencyP50 = median(rounds, func(r Round) time.Duration { return r.LatencyP50 })
	r.LatencyP99 = median(rounds, func(r Round) time.Duration { return r.LatencyP99 })
	r.CPUPerForwarded = median(rounds, func(r Round) time.Duration { return r.CPUPerForwarded })
	if floor.Expected == 0 {
		return
	}
	floor.CPUPerPacket = median(rounds, func(r Round) time.Duration { return r.FloorCPUPerPacket })
	floor.LatencyP50 = median(rounds, func(r Round) time.Duration { return r.FloorLatencyP50 })
	floor.LatencyP99 = median(rounds, func(r Round) time.Duration { return r.FloorLatencyP99 })
	floor.Ratio = median(rounds, func(r Round) float64 { return r.Ratio })
	r.Floor = &floor
}

// Complete says whether every packet arrived once and authentic.
func (r Report) Complete() bool {
	return r.Delivered == r.Expected && r.Duplicate == 0 && r.Unauthenticated == 0
}

// WriteText writes the report for a person.
func (r Report) WriteText(w io.Writer) error {
	_, err := fmt.Fprintf(w, `users          %d in %d channels, %d speaker-listener pairs
join           %s until everyone hears everyone
delivered      %d of %d packets, %d twice
authenticated  %d checked, %d refused
strange        %d malformed, %d of unknown SSRC, %d write errors
rtcp           got %d sender and %d receiver reports, %d NACKs, %d others, %d malformed; sent %d and %d reports
latency        p50 %s, p99 %s, max %s (pacer late by at most %s)
worker         %s CPU, %s per forwarded packet, %d KiB resident
`, r.Users, r.Channels, r.Pairs, r.JoinTime.Round(time.Millisecond), r.Delivered, r.Expected, r.Duplicate,
		r.Authenticated, r.Unauthenticated, r.Malformed, r.Unknown, r.WriteErrors,
		r.RTCPCounts.SenderReports, r.RTCPCounts.ReceiverReports, r.RTCPCounts.NACKs, r.RTCPCounts.Other,
		r.RTCPCounts.Malformed, r.RTCPCounts.SenderReportsSent, r.RTCPCounts.ReceiverReportsSent,
		r.LatencyP50, r.LatencyP99, r.LatencyMax, r.PacerLate.Round(time.Microsecond),
		r.WorkerCPU.Round(time.Millisecond), r.CPUPerForwarded, r.WorkerResident/1024)
	if f := r.Floor; err == nil && f != nil {
		_, err = fmt.Fprintf(w, `floor          %d of %d packets, %s CPU, %s per packet, latency p50 %s, p99 %s
ratio          %.2f: a forwarded packet's cost to that of a bare sendmmsg
`, f.Delivered, f.Expected, f.CPU.Round(time.Millisecond), f.CPUPerPacket, f.LatencyP50, f.LatencyP99, f.Ratio)
	}
	if err == nil && len(r.Rounds) > 1 {
		err = r.writeRounds(w)
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (r Report) writeRounds(w io.Writer) error {
	for i, round := range r.Rounds {
		_, err := fmt.Fprintf(w, "round %-8d %d of %d packets, p50 %s, p99 %s, worker %s a packet", i+1,
			round.Delivered, round.Expected, round.LatencyP50, round.LatencyP99, round.CPUPerForwarded)
		if err == nil && r.Floor != nil {
			_, err = fmt.Fprintf(w, ", floor %s, ratio %.2f", round.FloorCPUPerPacket, round.Ratio)
		}
		if err == nil {
			_, err = fmt.Fprintln(w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
