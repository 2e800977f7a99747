package load

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// saturated is the share of a CPU from which on a thread may have been too slow.
const saturated = 0.95

// Report is what a run measured. Durations are nanoseconds in JSON. With several
// rounds, latencies and costs per packet are the medians of the rounds; counts
// and times are sums, and LatencyMax is that of all packets.
type Report struct {
	Users    int           `json:"users"`
	Channels int           `json:"channels"`
	Pairs    int           `json:"pairs"`
	JoinTime time.Duration `json:"joinTimeNs"`
	Join     JoinReport    `json:"join"`
	// Idle is what the joined users cost in silence; nil if that was not measured.
	Idle      *IdleReport `json:"idle,omitempty"`
	Expected  uint64      `json:"expected"`
	Delivered uint64      `json:"delivered"`
	Duplicate uint64      `json:"duplicate"`
	// Authenticated packets had their SRTP protection checked in full.
	Authenticated   uint64     `json:"authenticated"`
	Unauthenticated uint64     `json:"unauthenticated"`
	Malformed       uint64     `json:"malformed"`
	Unknown         uint64     `json:"unknown"`
	RTCP            uint64     `json:"rtcp"`
	RTCPCounts      RTCPCounts `json:"rtcpCounts"`
	WriteErrors     uint64     `json:"writeErrors"`
	Latency
	// LeastShare and MostShare are what the listeners with the fewest and the most
	// packets got, as a share of what was sent to each; 1 is all.
	LeastShare float64 `json:"leastShare"`
	MostShare  float64 `json:"mostShare"`
	// Control is how the worker answered calls meanwhile; nil without Config.Control.
	Control *ControlReport `json:"control,omitempty"`
	// PacerLate is the longest that a packet was sent after its time, PacerLateP99
	// the 99th percentile.
	PacerLate    time.Duration `json:"pacerLateNs"`
	PacerLateP99 time.Duration `json:"pacerLateP99Ns"`
	// WorkerCPU is the CPU time of the measured processes in the counted time.
	WorkerCPU       time.Duration `json:"workerCpuNs"`
	WorkerResident  uint64        `json:"workerResidentBytes"`
	CPUPerForwarded time.Duration `json:"cpuPerForwardedNs"`
	// WorkerShare is how much of the counted time the measured processes ran; 1 is a
	// whole CPU. EngineShare and PacerShare are those of the generator's threads
	// that receive and send.
	WorkerShare  float64       `json:"workerCpuShare"`
	GeneratorCPU time.Duration `json:"generatorCpuNs"`
	EngineShare  float64       `json:"engineCpuShare"`
	PacerShare   float64       `json:"pacerCpuShare"`
	// KernelDrops counts the datagrams that the kernel dropped because the
	// generator read too slowly.
	KernelDrops uint64 `json:"kernelDrops"`
	// Invalid tells why the figures are not the server's; empty if they are.
	Invalid []string `json:"invalid,omitempty"`
	// Doubtful tells what may have changed the figures.
	Doubtful []string `json:"doubtful,omitempty"`
	// Floor is what the same packets cost a bare sending loop; nil without it.
	Floor *FloorReport `json:"floor,omitempty"`
	// Rounds are the windows one by one.
	Rounds []Round `json:"rounds"`
}

// JoinReport is what joining cost. What the measured processes do is zero
// without Config.PIDs.
type JoinReport struct {
	// Transports is how many were set up: one for each speaker, one for each hearer.
	Transports int `json:"transports"`
	// PerSecond is how many in a second of the time to join, PerCPUSecond how many
	// in a second of the workers' CPU time, WorkerCPU.
	PerSecond    float64       `json:"transportsPerSecond"`
	PerCPUSecond float64       `json:"transportsPerCpuSecond"`
	WorkerCPU    time.Duration `json:"workerCpuNs"`
	// ResidentBefore and ResidentAfter are the workers' memory around the join.
	ResidentBefore uint64 `json:"residentBeforeBytes"`
	ResidentAfter  uint64 `json:"residentAfterBytes"`
	// BytesPerTransport is the growth by each transport with its producers and
	// consumers. Memory that a worker has kept from an earlier load hides it.
	BytesPerTransport int64 `json:"bytesPerTransport"`
}

// joinReport is what the workers used between two readings for so many transports.
func joinReport(transports int, took time.Duration, before, after usage) JoinReport {
	j := JoinReport{
		Transports: transports, WorkerCPU: after.cpu - before.cpu,
		ResidentBefore: before.resident, ResidentAfter: after.resident,
	}
	j.PerSecond = float64(transports) / took.Seconds()
	if j.WorkerCPU > 0 {
		j.PerCPUSecond = float64(transports) / j.WorkerCPU.Seconds()
	}
	if transports > 0 {
		j.BytesPerTransport = (int64(after.resident) - int64(before.resident)) / int64(transports)
	}
	return j
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
	Expected  uint64 `json:"expected"`
	Delivered uint64 `json:"delivered"`
	Latency
	WorkerCPU       time.Duration `json:"workerCpuNs"`
	CPUPerForwarded time.Duration `json:"cpuPerForwardedNs"`
	// Elapsed is the window's time until its last packet was there.
	Elapsed      time.Duration `json:"elapsedNs"`
	WorkerShare  float64       `json:"workerCpuShare"`
	GeneratorCPU time.Duration `json:"generatorCpuNs"`
	EngineShare  float64       `json:"engineCpuShare"`
	PacerShare   float64       `json:"pacerCpuShare"`

	FloorExpected     uint64        `json:"floorExpected,omitempty"`
	FloorDelivered    uint64        `json:"floorDelivered,omitempty"`
	FloorCPU          time.Duration `json:"floorCpuNs,omitempty"`
	FloorCPUPerPacket time.Duration `json:"floorCpuPerPacketNs,omitempty"`
	FloorLatencyP50   time.Duration `json:"floorLatencyP50Ns,omitempty"`
	FloorLatencyP99   time.Duration `json:"floorLatencyP99Ns,omitempty"`
	// FloorLate is the longest that the bare loop sent a packet after its time.
	FloorLate time.Duration `json:"floorLateNs,omitempty"`
	Ratio     float64       `json:"ratio,omitempty"`
}

// Latency tells the times from before a packet was sent to its arrival by the
// kernel's clock.
type Latency struct {
	LatencyP50  time.Duration `json:"latencyP50Ns"`
	LatencyP90  time.Duration `json:"latencyP90Ns"`
	LatencyP99  time.Duration `json:"latencyP99Ns"`
	LatencyP999 time.Duration `json:"latencyP999Ns"`
	LatencyMax  time.Duration `json:"latencyMaxNs"`
}

func (h *histogram) latencies() Latency {
	return Latency{
		LatencyP50: h.quantile(0.5), LatencyP90: h.quantile(0.9), LatencyP99: h.quantile(0.99),
		LatencyP999: h.quantile(0.999), LatencyMax: h.highest,
	}
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
	r.fillShares(report)
	report.Authenticated, report.Unauthenticated = e.authenticated, e.unauthenticated
	report.Malformed, report.Unknown, report.RTCP = e.malformed, e.unknown, e.rtcp
	report.RTCPCounts = e.reports
	report.WriteErrors, report.KernelDrops = e.writeErrors.Load(), e.kernelDrops
	for i := range r.rounds {
		r.rounds[i].fill(e.tallies[i])
	}
	report.sum(r.rounds)
	report.judge(r.cfg.PacketTime)
}

// fillShares adds what each listener got.
func (r *run) fillShares(report *Report) {
	report.LeastShare = 1
	for _, u := range r.users {
		var delivered, sent uint64
		for _, p := range u.pairs {
			report.Duplicate += p.duplicate
			delivered += p.delivered
			for i := range p.speaker.sentAt {
				if p.speaker.sentAt[i].Load() != 0 {
					sent++
				}
			}
		}
		if sent > 0 {
			share := float64(delivered) / float64(sent)
			report.LeastShare, report.MostShare = min(report.LeastShare, share), max(report.MostShare, share)
		}
	}
}

// judge says whether the generator did its part.
func (r *Report) judge(packetTime time.Duration) {
	if r.KernelDrops > 0 {
		r.Invalid = append(r.Invalid, fmt.Sprintf("the generator received too slowly: the kernel dropped %d packets", r.KernelDrops))
	}
	if r.WriteErrors > 0 {
		r.Invalid = append(r.Invalid, fmt.Sprintf("the generator failed to send %d packets", r.WriteErrors))
	}
	if r.PacerLateP99 > packetTime/2 {
		r.Doubtful = append(r.Doubtful, fmt.Sprintf("the generator sent too late: one packet in a hundred by %s or more", r.PacerLateP99))
	}
	if late := median(r.Rounds, func(r Round) time.Duration { return r.FloorLate }); late > packetTime/2 {
		r.Doubtful = append(r.Doubtful, fmt.Sprintf("the floor is at its limit: the bare loop was late by %s", late))
	}
	if r.EngineShare > saturated {
		r.Doubtful = append(r.Doubtful, fmt.Sprintf("the receiving thread is at its limit: %.0f %% of a CPU", 100*r.EngineShare))
	}
}

// fill adds what arrived in the round.
func (r *Round) fill(t tally) {
	r.Delivered = t.delivered
	r.Latency = t.latency.latencies()
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
		r.GeneratorCPU += round.GeneratorCPU
		r.LatencyMax = max(r.LatencyMax, round.LatencyMax)
		floor.Expected += round.FloorExpected
		floor.Delivered += round.FloorDelivered
		floor.CPU += round.FloorCPU
	}
	r.LatencyP50 = median(rounds, func(r Round) time.Duration { return r.LatencyP50 })
	r.LatencyP90 = median(rounds, func(r Round) time.Duration { return r.LatencyP90 })
	r.LatencyP99 = median(rounds, func(r Round) time.Duration { return r.LatencyP99 })
	r.LatencyP999 = median(rounds, func(r Round) time.Duration { return r.LatencyP999 })
	r.CPUPerForwarded = median(rounds, func(r Round) time.Duration { return r.CPUPerForwarded })
	r.WorkerShare = median(rounds, func(r Round) float64 { return r.WorkerShare })
	r.EngineShare = median(rounds, func(r Round) float64 { return r.EngineShare })
	r.PacerShare = median(rounds, func(r Round) float64 { return r.PacerShare })
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
