package main

import (
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

func writeWorkers(w io.Writer, m *adminv1.ListWorkersResponse) {
	fmt.Fprintln(w, "WORKER\tSTATE\tPID\tGEN\tCPU\tLOAD\tMEMORY\tCHANNELS\tTRANSPORTS\tPRODUCERS\tCONSUMERS\tSENT\tDROPPED\tRESTARTS")
	for _, x := range m.GetWorkers() {
		fmt.Fprintf(w, "%d\t%s\t%d\t%d\t%s\t%.1f%%\t%.1f MiB\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n",
			x.GetSlot(), stateOf(x), x.GetPid(), x.GetGeneration(), optional(x.Cpu), 100*x.GetCpuShare(),
			float64(x.GetResidentBytes())/(1<<20), x.GetChannels(), x.GetTransports(), x.GetProducers(), x.GetConsumers(),
			x.GetPacketsSent(), x.GetPacketsDropped(), x.GetRestarts())
	}
	writeSocketFaults(w, m.GetWorkers())
}

// stateOf is a worker's state and what is special about it.
func stateOf(x *adminv1.Worker) string {
	state := x.GetState()
	if x.GetDraining() {
		state += ", drained"
	}
	if x.GetQuarantine() {
		state += ", quarantine"
	}
	return state
}

// writeSocketFaults adds a table of what went wrong on media sockets, if anything did.
func writeSocketFaults(w io.Writer, workers []*adminv1.Worker) {
	head := "\nWORKER\tSOCKET FAULT\tCOUNT\n"
	for _, x := range workers {
		for _, cause := range slices.Sorted(maps.Keys(x.GetSocketFaults())) {
			fmt.Fprintf(w, "%s%d\t%s\t%d\n", head, x.GetSlot(), cause, x.GetSocketFaults()[cause])
			head = ""
		}
	}
}

func writeChannels(w io.Writer, channels []*adminv1.ChannelSummary) {
	fmt.Fprintln(w, "CHANNEL\tWORKER\tUSERS\tPRODUCERS\tCONSUMERS\tAGE")
	for _, c := range channels {
		fmt.Fprintf(w, "%q\t%s\t%d\t%d\t%d\t%s\n", c.GetChannelId(), optional(c.WorkerSlot), c.GetUsers(), c.GetProducers(),
			c.GetConsumers(), age(c.GetAgeMs()))
	}
}

func writeChannel(w io.Writer, m *adminv1.GetChannelResponse) {
	writeChannels(w, []*adminv1.ChannelSummary{m.GetSummary()})
	fmt.Fprintln(w, "\nUSER\tSOCKETS\tTRANSPORT\tICE\tDTLS\tPATH\tSRTP")
	for _, u := range m.GetUsers() {
		if len(u.GetTransports()) == 0 {
			fmt.Fprintf(w, "%q\t%d\t-\t-\t-\t-\t-\n", u.GetUserId(), u.GetSockets())
		}
		for _, t := range u.GetTransports() {
			path := "-"
			if t.GetProtocol() != "" {
				path = t.GetProtocol() + " " + net.JoinHostPort(t.GetRemoteAddress(), strconv.Itoa(int(t.GetRemotePort())))
			}
			fmt.Fprintf(w, "%q\t%d\t%s\t%s\t%s\t%s\t%s\n", u.GetUserId(), u.GetSockets(), t.GetTransportId(), t.GetIceState(),
				t.GetDtlsState(), path, t.GetSrtpProfile())
		}
	}
	fmt.Fprintln(w, "\nSPEAKER\tPACKETS\tLOST\tJITTER\tRTT\tLEVEL\tLAST")
	for _, u := range m.GetUsers() {
		if u.ProducerId != nil {
			fmt.Fprintf(w, "%q\t%s\n", u.GetUserId(), link(u.GetUplink(), ""))
		}
	}
	fmt.Fprintln(w, "\nLISTENER\tHEARS\tPACKETS\tLOST\tJITTER\tRTT\tLEVEL\tLAST")
	for _, h := range m.GetHearings() {
		paused := ""
		if h.GetPaused() {
			paused = " (paused)"
		}
		fmt.Fprintf(w, "%q\t%q\t%s\n", h.GetListenerUserId(), h.GetSpeakerUserId(), link(h.GetLink(), paused))
	}
}

// link is the columns of one hop.
func link(l *adminv1.Link, note string) string {
	if l == nil {
		return "-\t-\t-\t-\t-\t-" + note
	}
	return fmt.Sprintf("%d\t%d\t%s\t%s\t%s\t%s%s", l.GetPackets(), l.GetPacketsLost(), unit(l.JitterMs, "%.1f ms"),
		unit(l.RoundTripTimeMs, "%.1f ms"), unit(l.AudioLevelDbov, "%d dBov"), unit(l.LastPacketAgeMs, "%d ms"), note)
}

// unit formats a figure that may be absent.
func unit[T any](v *T, format string) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v)
}

func optional(v *uint32) string { return unit(v, "%d") }

func age(ms uint64) string {
	return (time.Duration(min(ms, 1<<50)) * time.Millisecond).Round(time.Second).String()
}
