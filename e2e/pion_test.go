package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

const speechInterval = 20 * time.Millisecond

// pionOptions choose what a pion user offers.
type pionOptions struct {
	profile dtls.SRTPProtectionProfile // only this one; 0: all
	server  bool                       // be the DTLS server, so that the worker is the client
	patient bool                       // do not give a server up that does not answer for minutes
	// announce says how the certificate's fingerprint is told to the server; nil: as it is.
	announce    func(fingerprint) []fingerprint
	certificate *webrtc.Certificate // nil: one of pion's own
	tcp         bool                // instead of UDP
}

// pionUser is a user with pion's PeerConnections: one to speak, one to hear.
type pionUser struct {
	*socket
	name    string
	channel string
	options pionOptions
	api     *webrtc.API

	sendID, recvID, producer string

	extra    atomic.Int64 // bytes of payload behind each packet's number
	speaking sync.WaitGroup
	stop     chan struct{}
	changes  atomic.Int64  // of its connections' states
	received atomic.Uint64 // packets
	last     atomic.Uint64 // number in the newest packet's payload
	broken   atomic.Pointer[string]
}

func (s *server) enterPion(t *testing.T, name, channel string, options pionOptions) *pionUser {
	t.Helper()
	var engine webrtc.SettingEngine
	engine.SetIncludeLoopbackCandidate(true)
	engine.SetIPFilter(net.IP.IsLoopback)
	engine.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	if options.patient {
		engine.SetICETimeouts(3*time.Minute, 5*time.Minute, 2*time.Second)
	}
	if options.tcp {
		engine.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4})
	}
	if options.profile != 0 {
		engine.SetSRTPProtectionProfiles(options.profile)
	}
	var media webrtc.MediaEngine
	for _, payloadType := range []webrtc.PayloadType{111, 100} {
		opus := webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"},
			PayloadType:        payloadType,
		}
		if err := media.RegisterCodec(opus, webrtc.RTPCodecTypeAudio); err != nil {
			t.Fatal(err)
		}
	}
	u := &pionUser{name: name, channel: channel, options: options, stop: make(chan struct{}), socket: s.enter(t, name, channel)}
	u.api = webrtc.NewAPI(webrtc.WithSettingEngine(engine), webrtc.WithMediaEngine(&media))
	u.capabilities(t)
	t.Cleanup(func() {
		close(u.stop)
		u.speaking.Wait()
	})
	return u
}

// comeBack opens a socket anew, and must get the former session.
func (u *pionUser) comeBack(t *testing.T, s *server) {
	t.Helper()
	u.socket = s.dial(t, u.name, u.channel)
	var got struct{ Message string }
	u.expect(t, "connected").decode(t, &got)
	if got.Message != "dspeak session restored" {
		t.Errorf("%s is told %q", u.name, got.Message)
	}
}

// speak opens a transport and sends numbered packets until the test ends.
func (u *pionUser) speak(t *testing.T) {
	t.Helper()
	pc, track, ssrc := u.offer(t)
	connected(t, pc)
	u.producer = u.produce(t, u.sendID, "0", ssrc)
	u.speaking.Go(func() { u.talk(track) })
}

// offer opens a transport to send on, and begins to connect it.
func (u *pionUser) offer(t *testing.T) (*webrtc.PeerConnection, *webrtc.TrackLocalStaticRTP, uint32) {
	t.Helper()
	params := u.createTransport(t, "send")
	u.sendID = params.ID
	pc := u.connection(t)
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "audio", u.name)
	if err != nil {
		t.Fatal(err)
	}
	sender, err := pc.AddTrack(track)
	if err != nil {
		t.Fatal(err)
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	u.connectTransport(t, params.ID, offer.SDP)
	remote := u.sdp(params, 111, "recvonly", "")
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: remote}); err != nil {
		t.Fatal(err)
	}
	return pc, track, uint32(sender.GetParameters().Encodings[0].SSRC)
}

// talk sends a packet every 20 ms; its payload is its number.
func (u *pionUser) talk(track *webrtc.TrackLocalStaticRTP) {
	tick := time.NewTicker(speechInterval)
	defer tick.Stop()
	for number := uint64(1); ; number++ {
		select {
		case <-u.stop:
			return
		case <-tick.C:
		}
		packet := rtp.Packet{
			Header:  rtp.Header{Version: 2, SequenceNumber: uint16(number), Timestamp: uint32(number * 960)},
			Payload: append(binary.BigEndian.AppendUint64(nil, number), make([]byte, u.extra.Load())...),
		}
		if track.WriteRTP(&packet) != nil {
			return
		}
	}
}

// hear opens a transport and receives a producer until the test ends.
func (u *pionUser) hear(t *testing.T, producer string) {
	t.Helper()
	params := u.createTransport(t, "recv")
	u.recvID = params.ID
	var consumer consumerParams
	u.must(t, "consume", map[string]any{"producerId": producer, "transportId": params.ID}, "consumer-params").decode(t, &consumer)
	pc := u.connection(t)
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		if uint32(track.SSRC()) != consumer.RTPParameters.Encodings[0].SSRC {
			u.complain("SSRC %d, the consumer says %d", track.SSRC(), consumer.RTPParameters.Encodings[0].SSRC)
		}
		u.listen(track)
	})
	rtpParams := consumer.RTPParameters
	remote := u.sdp(params, rtpParams.Codecs[0].PayloadType, "sendonly", fmt.Sprintf("a=ssrc:%d cname:%v\r\n", rtpParams.Encodings[0].SSRC, rtpParams.Rtcp["cname"]))
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: remote}); err != nil {
		t.Fatal(err)
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		t.Fatal(err)
	}
	u.connectTransport(t, params.ID, answer.SDP)
	if err := pc.SetLocalDescription(answer); err != nil {
		t.Fatal(err)
	}
	connected(t, pc)
}

func (u *pionUser) listen(track *webrtc.TrackRemote) {
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		if len(packet.Payload) != 8 {
			u.complain("a payload of %d bytes", len(packet.Payload))
			return
		}
		u.last.Store(binary.BigEndian.Uint64(packet.Payload))
		u.received.Add(1)
	}
}

func (u *pionUser) complain(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	u.broken.Store(&text)
}

// hearing is a check for eventually: this many more packets came.
func (u *pionUser) hearing(more uint64) func() error {
	want := u.received.Load() + more
	return func() error {
		if text := u.broken.Load(); text != nil {
			return errors.New(*text)
		}
		if got := u.received.Load(); got < want {
			return fmt.Errorf("%s has %d packets, wants %d", u.name, got, want)
		}
		return nil
	}
}

func (u *pionUser) connection(t *testing.T) *webrtc.PeerConnection {
	t.Helper()
	var config webrtc.Configuration
	if u.options.certificate != nil {
		config.Certificates = []webrtc.Certificate{*u.options.certificate}
	}
	pc, err := u.api.NewPeerConnection(config)
	if err != nil {
		t.Fatal(err)
	}
	pc.OnConnectionStateChange(func(webrtc.PeerConnectionState) { u.changes.Add(1) })
	pc.OnICEConnectionStateChange(func(webrtc.ICEConnectionState) { u.changes.Add(1) })
	t.Cleanup(func() {
		if err := pc.GracefulClose(); err != nil {
			t.Error(err)
		}
	})
	return pc
}

func connected(t *testing.T, pc *webrtc.PeerConnection) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		if state := pc.ConnectionState(); state != webrtc.PeerConnectionStateConnected {
			return fmt.Errorf("connection is %s", state)
		}
		return nil
	})
}

// connectTransport tells the server the fingerprint in a session description.
func (u *pionUser) connectTransport(t *testing.T, id, sdp string) {
	t.Helper()
	_, line, _ := strings.Cut(sdp, "a=fingerprint:")
	line, _, _ = strings.Cut(line, "\r\n")
	algorithm, value, _ := strings.Cut(line, " ")
	role := "client"
	if u.options.server {
		role = "server"
	}
	dtlsParams := dtlsParameters{Role: role, Fingerprints: []fingerprint{{Algorithm: algorithm, Value: value}}}
	if u.options.announce != nil {
		dtlsParams.Fingerprints = u.options.announce(dtlsParams.Fingerprints[0])
	}
	u.must(t, "connect-transport", map[string]any{"transportId": id, "dtlsParameters": dtlsParams}, "transport-connected")
}

// sdp describes the server's side of a transport.
func (u *pionUser) sdp(params transportParams, payloadType uint8, direction, more string) string {
	setup := "passive" // also in an offer, so that nothing is left to choose
	if u.options.server {
		setup = "active"
	}
	var candidates strings.Builder
	for _, c := range params.IceCandidates {
		switch {
		case c.Protocol == "udp" && !u.options.tcp:
			fmt.Fprintf(&candidates, "a=candidate:%s 1 udp %d %s %d typ host\r\n", c.Foundation, c.Priority, c.Address, c.Port)
		case c.Protocol == "tcp" && u.options.tcp:
			fmt.Fprintf(&candidates, "a=candidate:%s 1 tcp %d %s %d typ host tcptype passive\r\n", c.Foundation, c.Priority, c.Address, c.Port)
		}
	}
	print256 := params.DtlsParameters.Fingerprints[0]
	for _, each := range params.DtlsParameters.Fingerprints {
		if each.Algorithm == "sha-256" {
			print256 = each
		}
	}
	return strings.Join([]string{
		"v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=ice-lite", "a=group:BUNDLE 0",
		fmt.Sprintf("m=audio 9 UDP/TLS/RTP/SAVPF %d", payloadType), "c=IN IP4 127.0.0.1", "a=mid:0", "a=" + direction,
		"a=rtcp-mux", "a=setup:" + setup,
		"a=fingerprint:" + print256.Algorithm + " " + print256.Value,
		"a=ice-ufrag:" + params.IceParameters.UsernameFragment, "a=ice-pwd:" + params.IceParameters.Password,
		fmt.Sprintf("a=rtpmap:%d opus/48000/2", payloadType), fmt.Sprintf("a=fmtp:%d minptime=10;useinbandfec=1", payloadType), "",
	}, "\r\n") + more + candidates.String() + "a=end-of-candidates\r\n"
}
