package supervisor

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/dspeak/sfu/signaling"
	"github.com/dspeak/sfu/supervisor/process"
)

// collector makes the metrics out of the registry and the workers' last reports
// at each scrape.
type collector struct {
	backend *backend
	sockets *signaling.Server

	channels, users, sessions, kicks, refused, workers *prometheus.Desc
	cpu, resident, transports, producers, consumers    *prometheus.Desc
	waiting, turnedAway, takeovers, lastTakeover, lost *prometheus.Desc
	quarantined                                        *prometheus.Desc
	received, sent, dropped, late                      *prometheus.Desc
	restarts, workerGoroutine                          *prometheus.Desc
	bytesReceived, bytesSent, socketFaults, segments   *prometheus.Desc
	padding                                            *prometheus.Desc
}

func newMetrics(b *backend, sockets *signaling.Server) *prometheus.Registry {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("dspeak_"+name, help, labels, nil)
	}
	c := &collector{
		backend: b, sockets: sockets,
		channels:        desc("channels", "Voice channels with users."),
		users:           desc("users", "Users in channels, those within the grace period included."),
		sessions:        desc("signaling_sessions", "Open signaling sockets."),
		waiting:         desc("signaling_waiting", "Clients that wait to be accepted."),
		turnedAway:      desc("signaling_turned_away_total", "Clients refused because too many waited."),
		takeovers:       desc("worker_takeovers_total", "Processes that went on with the state of the one before, by why that ended.", "slot", "cause"),
		lastTakeover:    desc("worker_last_takeover_seconds", "From the death of the process to its successor's readiness, of the last takeover.", "slot"),
		lost:            desc("takeover_transports_dropped_total", "Transports that a takeover could not go on with."),
		quarantined:     desc("channels_quarantined", "Channels in quarantine: they crashed their worker again and again."),
		kicks:           desc("kicks_total", "Forced disconnects."),
		refused:         desc("requests_refused_total", "Signaling requests answered with an error, by its kind.", "kind"),
		workers:         desc("workers", "Worker slots by state.", "state"),
		cpu:             desc("worker_cpu_share", "Share of a CPU that the worker uses.", "slot"),
		resident:        desc("worker_resident_bytes", "Resident memory of the worker.", "slot"),
		transports:      desc("worker_transports", "Transports on the worker.", "slot"),
		producers:       desc("worker_producers", "Producers on the worker.", "slot"),
		consumers:       desc("worker_consumers", "Consumers on the worker.", "slot"),
		received:        desc("worker_packets_received_total", "Packets received by the worker.", "slot"),
		sent:            desc("worker_packets_sent_total", "Packets sent by the worker.", "slot"),
		dropped:         desc("worker_packets_dropped_total", "Packets dropped by the worker.", "slot"),
		late:            desc("worker_packets_late_total", "Packets received by the worker too late to be forwarded.", "slot"),
		bytesReceived:   desc("worker_bytes_received_total", "Bytes received by the worker's media sockets.", "slot"),
		bytesSent:       desc("worker_bytes_sent_total", "Bytes sent by the worker's media sockets.", "slot"),
		padding:         desc("worker_padding_bytes_total", "Bytes that padding added to forwarded payloads.", "slot"),
		socketFaults:    desc("worker_socket_faults_total", "What went wrong on the worker's media sockets, by cause.", "slot", "cause"),
		segments:        desc("worker_segments", "Packets that one send of the worker may hold; 1: without UDP_SEGMENT.", "slot"),
		restarts:        desc("worker_restarts_total", "Restarts of the slot.", "slot"),
		workerGoroutine: desc("worker_goroutines", "Goroutines of the worker.", "slot"),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, out) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	r := c.backend.registry
	r.mu.Lock()
	users := 0
	for _, ch := range r.channels {
		users += len(ch.users)
	}
	gauge(c.channels, float64(len(r.channels)))
	quarantined := len(r.poisoned)
	r.mu.Unlock()
	gauge(c.quarantined, float64(quarantined))
	gauge(c.users, float64(users))
	gauge(c.sessions, float64(c.sockets.Len()))
	waiting, turnedAway := c.sockets.Waiting()
	gauge(c.waiting, float64(waiting))
	counter(c.turnedAway, turnedAway)
	counter(c.lost, c.backend.takeovers.dropped.Load())
	counter(c.kicks, c.backend.kicks.Load())
	for i, kind := range refusalKinds() {
		counter(c.refused, c.backend.refusals.counts[i].Load(), kind.name)
	}
	c.collectWorkers(gauge, counter)
}

// collectWorkers makes the metrics of the worker slots.
func (c *collector) collectWorkers(gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	states := map[process.State]int{process.StateReady: 0}
	for _, w := range c.backend.workers.Workers() {
		slot := strconv.Itoa(int(w.Slot))
		states[w.State]++
		counter(c.restarts, uint64(w.Restarts), slot) //nolint:gosec // a count
		for cause := range takeoverCauses {
			counter(c.takeovers, c.backend.takeovers.counts[w.Slot][cause].Load(), slot, cause.String())
		}
		if w.Takeovers > 0 {
			gauge(c.lastTakeover, w.LastTakeover.Seconds(), slot)
		}
		if u := w.Usage; u != nil {
			gauge(c.cpu, u.GetCpuShare(), slot)
			gauge(c.resident, float64(u.GetResidentBytes()), slot)
			gauge(c.transports, float64(u.GetTransports()), slot)
			gauge(c.producers, float64(u.GetProducers()), slot)
			gauge(c.consumers, float64(u.GetConsumers()), slot)
			gauge(c.workerGoroutine, float64(u.GetGoroutines()), slot)
			counter(c.received, u.GetPacketsReceived(), slot)
			counter(c.sent, u.GetPacketsSent(), slot)
			counter(c.dropped, u.GetPacketsDropped(), slot)
			counter(c.late, u.GetPacketsLate(), slot)
			counter(c.bytesReceived, u.GetSockets().GetBytesReceived(), slot)
			counter(c.bytesSent, u.GetSockets().GetBytesSent(), slot)
			counter(c.padding, u.GetPaddingBytes(), slot)
			gauge(c.segments, float64(u.GetSockets().GetMaxSegments()), slot)
			for _, f := range socketFaults(u.GetSockets()) {
				counter(c.socketFaults, f.count, slot, f.cause)
			}
		}
	}
	for state, n := range states {
		gauge(c.workers, float64(n), string(state))
	}
}
