package worker

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/worker/ortc"
	"github.com/dspeak/sfu/worker/rtc"
)

// checkComplete wants every field of a message set, so that no conversion forgets one.
func checkComplete(t *testing.T, m proto.Message) {
	t.Helper()
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.ContainingOneof() == nil || f.HasOptionalKeyword() {
			if !r.Has(f) {
				t.Errorf("%s is not set", f.FullName())
			}
		}
	}
	r.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() == nil || f.Message().FullName() == "google.protobuf.Struct" {
			return true
		}
		if f.Message().ParentFile().Package() == "dspeak.worker.v1" && f.IsList() && v.List().Len() > 0 {
			checkComplete(t, v.List().Get(0).Message().Interface())
		} else if !f.IsList() {
			checkComplete(t, v.Message().Interface())
		}
		return true
	})
}

func fullParameters() ortc.RtpParameters {
	return ortc.RtpParameters{
		Mid: "1",
		Codecs: []ortc.RtpCodecParameters{{
			MimeType: "audio/opus", PayloadType: 100, ClockRate: 48000, Channels: 2,
			Parameters: ortc.Parameters{"usedtx": int64(1)}, RtcpFeedback: []ortc.RtcpFeedback{{Type: "nack", Parameter: "x"}},
		}},
		HeaderExtensions: []ortc.RtpHeaderExtensionParameters{{URI: ortc.URIMid, ID: 1, Encrypt: true}},
		Encodings:        []ortc.RtpEncodingParameters{{SSRC: 9, RID: "r", CodecPayloadType: 100, DTX: true, MaxBitrate: 5}},
		Rtcp:             ortc.RtcpParameters{CNAME: "c", ReducedSize: new(true), Mux: new(true)},
	}
}

func tuple() *rtc.IceTuple {
	return &rtc.IceTuple{
		Protocol: "udp", LocalAddress: "192.0.2.1", LocalPort: 12825, RemoteAddress: "192.0.2.7", RemotePort: 50000,
	}
}

const tupleJSON = `{"protocol":"udp","localAddress":"192.0.2.1","localPort":12825,"remoteAddress":"192.0.2.7","remotePort":50000}`

func TestFromWorkerDump(t *testing.T) {
	got := fromWorkerDump(rtc.WorkerDump{
		Slot: 1, PID: 2, Generation: 3, Epoch: 4, RtpCapabilities: fullCapabilities(),
		Routers: []rtc.RouterDump{{ID: "r", AppData: []byte{1}, Transports: []rtc.TransportDump{{
			ID: "t", AppData: []byte{2}, IceState: rtc.IceConnected, DtlsState: rtc.DtlsConnected, DtlsLocalRole: "server",
			SrtpProfile: "SRTP_AEAD_AES_128_GCM", Tuple: tuple(),
			Producers: []rtc.ProducerDump{{
				ID: "p", Kind: "audio", RtpParameters: fullParameters(), ConsumableRtpParameters: fullParameters(), Paused: true,
			}},
			Consumers: []rtc.ConsumerDump{{
				ID: "c", ProducerID: "p2", Kind: "audio", RtpParameters: fullParameters(), Paused: true, ProducerPaused: true,
			}},
		}}}},
	})
	checkComplete(t, got)
	const params = `{"mid":"1","codecs":[{"mimeType":"audio/opus","payloadType":100,"clockRate":48000,"channels":2,
		"parameters":{"usedtx":1},"rtcpFeedback":[{"type":"nack","parameter":"x"}]}],
		"headerExtensions":[{"uri":"urn:ietf:params:rtp-hdrext:sdes:mid","id":1,"encrypt":true,"parameters":{}}],
		"encodings":[{"ssrc":9,"rid":"r","codecPayloadType":100,"dtx":true,"maxBitrate":5}],
		"rtcp":{"cname":"c","reducedSize":true,"mux":true}}`
	checkJSON(t, got, `{"slot":1,"pid":2,"generation":"3","epoch":"4","routers":[{"id":"r","appData":"AQ==","transports":[{"id":"t","appData":"Ag==",
		"iceState":"ICE_STATE_CONNECTED","dtlsState":"DTLS_STATE_CONNECTED","dtlsLocalRole":"server",
		"srtpProfile":"SRTP_AEAD_AES_128_GCM","iceSelectedTuple":`+tupleJSON+`,
		"producers":[{"id":"p","kind":"audio","rtpParameters":`+params+`,"consumableRtpParameters":`+params+`,"paused":true}],
		"consumers":[{"id":"c","producerId":"p2","kind":"audio","rtpParameters":`+params+`,"paused":true,"producerPaused":true}]}]}],
		"rtpCapabilities":{"codecs":[{"kind":"audio","mimeType":"audio/opus","preferredPayloadType":100,"clockRate":48000,"channels":2,
		"parameters":{"a":"b"},"rtcpFeedback":[{"type":"nack","parameter":"pli"}]}],"headerExtensions":[{"kind":"audio",
		"uri":"urn:ietf:params:rtp-hdrext:sdes:mid","preferredId":14,"preferredEncrypt":true,"direction":"recvonly"}]}}`)
}

func TestFromWorkerDumpOfAnIdleTransport(t *testing.T) {
	checkJSON(t, fromWorkerDump(rtc.WorkerDump{
		PID: 2, Routers: []rtc.RouterDump{{ID: "r", Transports: []rtc.TransportDump{{
			ID: "t", IceState: rtc.IceNew, DtlsState: rtc.DtlsNew, DtlsLocalRole: "auto",
		}}}},
	}), `{"pid":2,"routers":[{"id":"r","transports":[
		{"id":"t","iceState":"ICE_STATE_NEW","dtlsState":"DTLS_STATE_NEW","dtlsLocalRole":"auto"}]}],"rtpCapabilities":{}}`)
}

func TestFromSocketStats(t *testing.T) {
	got := fromSocketStats(rtc.SocketStats{
		BytesReceived: 1, BytesSent: 2, KernelDrops: 3, Truncated: 4, Refused: 5, WouldBlock: 6, SegmentationRefused: 7,
		TCPRefused: 8, TCPDropped: 9, TCPBadFrames: 10, MaxSegments: 11,
	})
	checkComplete(t, got)
	checkJSON(t, got, `{"bytesReceived":"1","bytesSent":"2","kernelDrops":"3","truncated":"4","refused":"5","wouldBlock":"6",
		"segmentationRefused":"7","tcpRefused":"8","tcpDropped":"9","tcpBadFrames":"10","maxSegments":11}`)
}

func TestFromStats(t *testing.T) {
	got := fromStats(rtc.Stats{
		Transports: []rtc.TransportStats{{
			Transport: "t", Router: "r", IceState: rtc.IceConnected, DtlsState: rtc.DtlsConnected, Tuple: tuple(),
			BytesReceived: 1, BytesSent: 2, PacketsReceived: 3, PacketsSent: 4, PacketsDiscarded: 5, PacketsDropped: 6,
			LastCheckAgeMs: new(uint32(7)),
		}},
		Producers: []rtc.ProducerStats{{
			Producer: "p", Transport: "t", Router: "r", SSRC: 8, Packets: 9, Bytes: 10, PacketsLost: -11, JitterMs: 12.5,
			RoundTripTimeMs: new(13.5), AudioLevelDbov: new(int32(-14)), LastPacketAgeMs: new(uint32(15)), Paused: true, NacksSent: 16, PacketsLate: 3,
		}},
		Consumers: []rtc.ConsumerStats{{
			Consumer: "c", Producer: "p", Transport: "t", Router: "r", SSRC: 17, Packets: 18, Bytes: 19, PacketsLost: 20,
			FractionLost: 0.25, JitterMs: new(21.5), RoundTripTimeMs: new(22.5), AudioLevelDbov: new(int32(-23)),
			LastPacketAgeMs: new(uint32(24)), Paused: true, ProducerPaused: true, Retransmitted: 25,
		}},
	})
	checkComplete(t, got)
	checkJSON(t, got, `{"transports":[{"transportId":"t","routerId":"r","iceState":"ICE_STATE_CONNECTED",
		"dtlsState":"DTLS_STATE_CONNECTED","iceSelectedTuple":`+tupleJSON+`,"bytesReceived":"1","bytesSent":"2",
		"packetsReceived":"3","packetsSent":"4","packetsDiscarded":"5","packetsDropped":"6","lastCheckAgeMs":7}],
		"producers":[{"producerId":"p","transportId":"t","routerId":"r","ssrc":8,"packets":"9","bytes":"10","packetsLost":"-11",
		"jitterMs":12.5,"roundTripTimeMs":13.5,"audioLevelDbov":-14,"lastPacketAgeMs":15,"paused":true,"nacksSent":"16","packetsLate":"3"}],
		"consumers":[{"consumerId":"c","producerId":"p","transportId":"t","routerId":"r","ssrc":17,"packets":"18","bytes":"19",
		"packetsLost":"20","fractionLost":0.25,"jitterMs":21.5,"roundTripTimeMs":22.5,"audioLevelDbov":-23,"lastPacketAgeMs":24,
		"paused":true,"producerPaused":true,"retransmitted":"25"}]}`)
}

func TestFromStatsKeepsUnknownApartFromZero(t *testing.T) {
	checkJSON(t, fromStats(rtc.Stats{
		Producers: []rtc.ProducerStats{{Producer: "p"}, {Producer: "q", AudioLevelDbov: new(int32(0)), LastPacketAgeMs: new(uint32(0))}},
	}), `{"producers":[{"producerId":"p"},{"producerId":"q","audioLevelDbov":0,"lastPacketAgeMs":0}]}`)
}

func TestFromEvent(t *testing.T) {
	checkJSON(t, fromEvent(rtc.Event{
		Kind: rtc.EventTransportClosed, Router: "r", Transport: "t", Reason: rtc.ReasonConsentExpired,
	}), `{"transportClosed":{"routerId":"r","transportId":"t","reason":"ice consent expired"}}`)
	checkJSON(t, fromEvent(rtc.Event{
		Kind: rtc.EventTransportState, Router: "r", Transport: "t", IceState: rtc.IceDisconnected, DtlsState: rtc.DtlsConnecting,
	}), `{"transportState":{"routerId":"r","transportId":"t","iceState":"ICE_STATE_DISCONNECTED","dtlsState":"DTLS_STATE_CONNECTING"}}`)
}

func TestStates(t *testing.T) {
	for in, want := range map[rtc.IceState]workerv1.IceState{
		0:                   workerv1.IceState_ICE_STATE_UNSPECIFIED,
		rtc.IceNew:          workerv1.IceState_ICE_STATE_NEW,
		rtc.IceConnected:    workerv1.IceState_ICE_STATE_CONNECTED,
		rtc.IceDisconnected: workerv1.IceState_ICE_STATE_DISCONNECTED,
		rtc.IceClosed:       workerv1.IceState_ICE_STATE_CLOSED,
	} {
		if got := fromIceState(in); got != want {
			t.Errorf("ice state %d: got %v, want %v", in, got, want)
		}
	}
	for in, want := range map[rtc.DtlsState]workerv1.DtlsState{
		0:                  workerv1.DtlsState_DTLS_STATE_UNSPECIFIED,
		rtc.DtlsNew:        workerv1.DtlsState_DTLS_STATE_NEW,
		rtc.DtlsConnecting: workerv1.DtlsState_DTLS_STATE_CONNECTING,
		rtc.DtlsConnected:  workerv1.DtlsState_DTLS_STATE_CONNECTED,
		rtc.DtlsFailed:     workerv1.DtlsState_DTLS_STATE_FAILED,
		rtc.DtlsClosed:     workerv1.DtlsState_DTLS_STATE_CLOSED,
	} {
		if got := fromDtlsState(in); got != want {
			t.Errorf("dtls state %d: got %v, want %v", in, got, want)
		}
	}
}
