package worker

import (
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/worker/rtc"
)

// fromIceState converts by meaning: the two enumerations may grow apart.
func fromIceState(s rtc.IceState) workerv1.IceState {
	switch s {
	case rtc.IceNew:
		return workerv1.IceState_ICE_STATE_NEW
	case rtc.IceConnected:
		return workerv1.IceState_ICE_STATE_CONNECTED
	case rtc.IceDisconnected:
		return workerv1.IceState_ICE_STATE_DISCONNECTED
	case rtc.IceClosed:
		return workerv1.IceState_ICE_STATE_CLOSED
	default:
		return workerv1.IceState_ICE_STATE_UNSPECIFIED
	}
}

func fromDtlsState(s rtc.DtlsState) workerv1.DtlsState {
	switch s {
	case rtc.DtlsNew:
		return workerv1.DtlsState_DTLS_STATE_NEW
	case rtc.DtlsConnecting:
		return workerv1.DtlsState_DTLS_STATE_CONNECTING
	case rtc.DtlsConnected:
		return workerv1.DtlsState_DTLS_STATE_CONNECTED
	case rtc.DtlsFailed:
		return workerv1.DtlsState_DTLS_STATE_FAILED
	case rtc.DtlsClosed:
		return workerv1.DtlsState_DTLS_STATE_CLOSED
	default:
		return workerv1.DtlsState_DTLS_STATE_UNSPECIFIED
	}
}

func fromTuple(t *rtc.IceTuple) *workerv1.IceTuple {
	if t == nil {
		return nil
	}
	return &workerv1.IceTuple{
		Protocol: t.Protocol, LocalAddress: t.LocalAddress, LocalPort: uint32(t.LocalPort),
		RemoteAddress: t.RemoteAddress, RemotePort: uint32(t.RemotePort),
	}
}

func fromWorkerDump(d rtc.WorkerDump) *workerv1.WorkerDump {
	out := &workerv1.WorkerDump{
		Slot: uint32(d.Slot), Pid: uint32(d.PID), Generation: uint64(d.Generation), //nolint:gosec // a process id is positive
		Epoch: uint64(d.Epoch), RtpCapabilities: fromRtpCapabilities(d.RtpCapabilities),
	}
	for _, r := range d.Routers {
		router := &workerv1.RouterDump{Id: string(r.ID), AppData: r.AppData}
		for i := range r.Transports {
			router.Transports = append(router.Transports, fromTransportDump(&r.Transports[i]))
		}
		out.Routers = append(out.Routers, router)
	}
	return out
}

func fromTransportDump(t *rtc.TransportDump) *workerv1.TransportDump {
	out := &workerv1.TransportDump{
		Id: string(t.ID), IceState: fromIceState(t.IceState), DtlsState: fromDtlsState(t.DtlsState),
		DtlsLocalRole: t.DtlsLocalRole, SrtpProfile: t.SrtpProfile, IceSelectedTuple: fromTuple(t.Tuple),
		AppData: t.AppData,
	}
	for _, p := range t.Producers {
		out.Producers = append(out.Producers, &workerv1.ProducerDump{
			Id: string(p.ID), Kind: p.Kind, Paused: p.Paused, RtpParameters: fromRtpParameters(p.RtpParameters),
			ConsumableRtpParameters: fromRtpParameters(p.ConsumableRtpParameters),
		})
	}
	for _, c := range t.Consumers {
		out.Consumers = append(out.Consumers, &workerv1.ConsumerDump{
			Id: string(c.ID), ProducerId: string(c.ProducerID), Kind: c.Kind,
			RtpParameters: fromRtpParameters(c.RtpParameters), Paused: c.Paused, ProducerPaused: c.ProducerPaused,
		})
	}
	return out
}

func fromStats(s rtc.Stats) *workerv1.GetStatsResponse {
	out := &workerv1.GetStatsResponse{}
	for i := range s.Transports {
		t := &s.Transports[i]
		out.Transports = append(out.Transports, &workerv1.TransportStats{
			TransportId: string(t.Transport), RouterId: string(t.Router),
			IceState: fromIceState(t.IceState), DtlsState: fromDtlsState(t.DtlsState), IceSelectedTuple: fromTuple(t.Tuple),
			BytesReceived: t.BytesReceived, BytesSent: t.BytesSent,
			PacketsReceived: t.PacketsReceived, PacketsSent: t.PacketsSent,
			PacketsDiscarded: t.PacketsDiscarded, PacketsDropped: t.PacketsDropped, LastCheckAgeMs: t.LastCheckAgeMs,
		})
	}
	for i := range s.Producers {
		p := &s.Producers[i]
		out.Producers = append(out.Producers, &workerv1.ProducerStats{
			ProducerId: string(p.Producer), TransportId: string(p.Transport), RouterId: string(p.Router),
			Ssrc: p.SSRC, Packets: p.Packets, Bytes: p.Bytes, PacketsLost: p.PacketsLost, JitterMs: p.JitterMs,
			RoundTripTimeMs: p.RoundTripTimeMs, AudioLevelDbov: p.AudioLevelDbov, LastPacketAgeMs: p.LastPacketAgeMs,
			Paused: p.Paused, NacksSent: p.NacksSent, PacketsLate: p.PacketsLate,
		})
	}
	for i := range s.Consumers {
		c := &s.Consumers[i]
		out.Consumers = append(out.Consumers, &workerv1.ConsumerStats{
			ConsumerId: string(c.Consumer), ProducerId: string(c.Producer), TransportId: string(c.Transport),
			RouterId: string(c.Router), Ssrc: c.SSRC, Packets: c.Packets, Bytes: c.Bytes,
			PacketsLost: c.PacketsLost, FractionLost: c.FractionLost, JitterMs: c.JitterMs,
			RoundTripTimeMs: c.RoundTripTimeMs, AudioLevelDbov: c.AudioLevelDbov, LastPacketAgeMs: c.LastPacketAgeMs,
			Paused: c.Paused, ProducerPaused: c.ProducerPaused, Retransmitted: c.Retransmitted,
		})
	}
	return out
}

func fromSocketStats(s rtc.SocketStats) *workerv1.MediaSocketStats {
	return &workerv1.MediaSocketStats{
		BytesReceived: s.BytesReceived, BytesSent: s.BytesSent, KernelDrops: s.KernelDrops, Truncated: s.Truncated,
		Refused: s.Refused, WouldBlock: s.WouldBlock, SegmentationRefused: s.SegmentationRefused,
		TcpRefused: s.TCPRefused, TcpDropped: s.TCPDropped, TcpBadFrames: s.TCPBadFrames, MaxSegments: count(s.MaxSegments),
	}
}

func fromEvent(e rtc.Event) *workerv1.WatchEventsResponse {
	if e.Kind == rtc.EventTransportClosed {
		return &workerv1.WatchEventsResponse{Event: &workerv1.WatchEventsResponse_TransportClosed{
			TransportClosed: &workerv1.TransportClosedEvent{
				RouterId: string(e.Router), TransportId: string(e.Transport), Reason: e.Reason,
			},
		}}
	}
	return &workerv1.WatchEventsResponse{Event: &workerv1.WatchEventsResponse_TransportState{
		TransportState: &workerv1.TransportStateEvent{
			RouterId: string(e.Router), TransportId: string(e.Transport),
			IceState: fromIceState(e.IceState), DtlsState: fromDtlsState(e.DtlsState),
		},
	}}
}
