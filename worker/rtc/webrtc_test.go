package rtc

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/ortc"
)

// ortcClient is pion/webrtc's own ICE agent, DTLS and SRTP, driven by its ORTC API.
type ortcClient struct {
	rig  *rig
	api  *webrtc.API
	id   ident.TransportID
	ice  *webrtc.ICETransport
	dtls *webrtc.DTLSTransport
}

// newORTCClient connects to a transport of its own.
func (r *rig) newORTCClient(router ident.RouterID) *ortcClient {
	r.t.Helper()
	id, info := r.transport(router)
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	settings.SetIPFilter(func(ip net.IP) bool { return ip.To4() != nil })
	engine := &webrtc.MediaEngine{}
	if err := engine.RegisterCodec(webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, PayloadType: 100,
	}, webrtc.RTPCodecTypeAudio); err != nil {
		r.t.Fatal(err)
	}
	c := &ortcClient{rig: r, id: id, api: webrtc.NewAPI(webrtc.WithSettingEngine(settings), webrtc.WithMediaEngine(engine))}
	gatherer, err := c.api.NewICEGatherer(webrtc.ICEGatherOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	gathered := make(chan struct{})
	gatherer.OnLocalCandidate(func(cand *webrtc.ICECandidate) {
		if cand == nil {
			close(gathered)
		}
	})
	if err := gatherer.Gather(); err != nil {
		r.t.Fatal(err)
	}
	<-gathered
	c.ice = c.api.NewICETransport(gatherer)
	if c.dtls, err = c.api.NewDTLSTransport(c.ice, nil); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = c.dtls.Stop()
		_ = c.ice.Stop()
	})
	c.start(info)
	return c
}

func (c *ortcClient) start(info TransportInfo) {
	c.rig.t.Helper()
	local, err := c.dtls.GetLocalParameters()
	if err != nil {
		c.rig.t.Fatal(err)
	}
	params := DtlsParameters{Role: "client"}
	for _, f := range local.Fingerprints {
		params.Fingerprints = append(params.Fingerprints, DtlsFingerprint{Algorithm: f.Algorithm, Value: f.Value})
	}
	if _, err := c.rig.ConnectTransport(c.rig.ctx, c.id, params); err != nil {
		c.rig.t.Fatal(err)
	}
	var candidates []webrtc.ICECandidate
	for _, cand := range info.IceCandidates {
		if cand.Protocol == "udp" && !strings.Contains(cand.Address, ":") {
			candidates = append(candidates, webrtc.ICECandidate{
				Foundation: cand.Foundation, Priority: cand.Priority, Address: cand.Address,
				Protocol: webrtc.ICEProtocolUDP, Port: cand.Port, Typ: webrtc.ICECandidateTypeHost, Component: 1,
			})
		}
	}
	if err := c.ice.SetRemoteCandidates(candidates); err != nil {
		c.rig.t.Fatal(err)
	}
	role := webrtc.ICERoleControlling
	if err := c.ice.Start(nil, webrtc.ICEParameters{
		UsernameFragment: info.IceParameters.UsernameFragment, Password: info.IceParameters.Password, ICELite: true,
	}, &role); err != nil {
		c.rig.t.Fatal(err)
	}
	remote := webrtc.DTLSParameters{Role: webrtc.DTLSRoleServer}
	for _, f := range info.DtlsParameters.Fingerprints {
		remote.Fingerprints = append(remote.Fingerprints, webrtc.DTLSFingerprint{Algorithm: f.Algorithm, Value: f.Value})
	}
	if err := c.dtls.Start(remote); err != nil {
		c.rig.t.Fatal(err)
	}
}

// TestIndependentClients lets pion/webrtc speak and listen: nothing of the client is
// ours. Padded or not, the frames are the same.
func TestIndependentClients(t *testing.T) {
	for _, padding := range []Padding{PaddingOff, PaddingAlways} {
		t.Run("padding "+string(padding), func(t *testing.T) { testIndependentClients(t, padding) })
	}
}

func testIndependentClients(t *testing.T, padding Padding) {
	t.Helper()
	r := newRig(t, func(c *Config) { c.Padding = padding })
	router := r.router()
	a, b := r.newORTCClient(router), r.newORTCClient(router)

	track, err := webrtc.NewTrackLocalStaticSample(
		webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "audio", "mic")
	mustNil(t, err)
	sender, err := a.api.NewRTPSender(track, a.dtls)
	mustNil(t, err)
	defer func() { _ = sender.Stop() }()
	mustNil(t, sender.Send(sender.GetParameters()))
	encoding := sender.GetParameters().Encodings[0]
	params := producerParams(uint32(encoding.SSRC), "0")
	params.Codecs[0].PayloadType = 100
	producer := ident.ProducerID(ident.New())
	_, err = r.Produce(r.ctx, ProduceParams{Transport: a.id, ID: producer, Kind: "audio", RtpParameters: params})
	mustNil(t, err)
	res, err := r.Consume(r.ctx, ConsumeParams{
		Transport: b.id, ID: "c", Producer: producer, RtpCapabilities: ortc.RouterRtpCapabilities(),
	})
	mustNil(t, err)
	receiver, err := b.api.NewRTPReceiver(webrtc.RTPCodecTypeAudio, b.dtls)
	mustNil(t, err)
	defer func() { _ = receiver.Stop() }()
	mustNil(t, receiver.Receive(webrtc.RTPReceiveParameters{Encodings: []webrtc.RTPDecodingParameters{{
		RTPCodingParameters: webrtc.RTPCodingParameters{SSRC: webrtc.SSRC(res.RtpParameters.Encodings[0].SSRC), PayloadType: 100},
	}}}))

	frame := []byte("one opus frame or so")
	heard := make(chan error, 1)
	go func() {
		for n, last := 0, uint16(0); n < 25; n++ {
			p, _, err := receiver.Track().ReadRTP()
			if err != nil {
				heard <- err
				return
			}
			if !bytes.Equal(p.Payload, frame) || n > 0 && p.SequenceNumber != last+1 || p.Padding != (padding == PaddingAlways) {
				t.Errorf("heard %v after number %d", p, last)
			}
			last = p.SequenceNumber
		}
		heard <- nil
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		select {
		case <-tick.C:
			mustNil(t, track.WriteSample(media.Sample{Data: frame, Duration: 20 * time.Millisecond}))
		case err := <-heard:
			mustNil(t, err)
			return
		case <-deadline:
			t.Fatal("nothing heard")
		}
	}
}
