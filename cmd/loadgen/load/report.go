package load

import (
	"fmt"
	"io"
	"time"
)

// Report is what a run measured. Durations are nanoseconds in JSON.
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
}

// fill adds what the engine counted; it must have ended.
func (r *run) fill(report *Report) {
	e := r.engine
	report.Users, report.Channels, report.Pairs = len(r.users), r.cfg.Channels, r.cfg.Pairs()
	report.Expected = uint64(r.cfg.Pairs()) * uint64(r.cfg.packets())
	for _, u := range r.users {
		for _, p := range u.pairs {
			report.Delivered += p.delivered
			report.Duplicate += p.duplicate
		}
	}
	report.Authenticated, report.Unauthenticated = e.authenticated, e.unauthenticated
	report.Malformed, report.Unknown, report.RTCP = e.malformed, e.unknown, e.rtcp
	report.WriteErrors = e.writeErrors.Load()
	report.LatencyP50, report.LatencyP99, report.LatencyMax = e.latency.quantile(0.5), e.latency.quantile(0.99), e.latency.highest
	if report.Delivered > 0 {
		report.CPUPerForwarded = report.WorkerCPU / time.Duration(report.Delivered)
	}
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
latency        p50 %s, p99 %s, max %s (pacer late by at most %s)
worker         %s CPU, %s per forwarded packet, %d KiB resident
`, r.Users, r.Channels, r.Pairs, r.JoinTime.Round(time.Millisecond), r.Delivered, r.Expected, r.Duplicate,
		r.Authenticated, r.Unauthenticated, r.Malformed, r.Unknown, r.WriteErrors,
		r.LatencyP50, r.LatencyP99, r.LatencyMax, r.PacerLate.Round(time.Microsecond),
		r.WorkerCPU.Round(time.Millisecond), r.CPUPerForwarded, r.WorkerResident/1024)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
