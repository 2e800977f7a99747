package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

const (
	sourceSpeakers = 4
	sourceRounds   = 18 // of unmutes
)

// TestManySourcesInFirefox: Firefox reports on every consumer from an SSRC of its own. It is
// still heard after more unmutes than the worker keeps sources for: what it lost is shown.
// It asks for no audio packet again.
func TestManySourcesInFirefox(t *testing.T) {
	if os.Getenv("DSPEAK_E2E_RUNS") == "" {
		t.Skip("NOT TESTED: a minute of unmutes, for which DSPEAK_E2E_RUNS asks")
	}
	space := newNamespace(t, "4", "meta l4proto udp numgen random mod 25 < 1 drop")
	s := startServer(t, settings{space: space, host: spaceIPv4, env: map[string]string{"SFU_IPV4": spaceIPv4, "SFU_IPV6": ""}})
	sc := newScene(t, s, lab.own(t, firefox, space), newest)
	var speakers []*user
	for i := range sourceSpeakers {
		speakers = append(speakers, sc.join(t, fmt.Sprint("speaker", i), nil))
	}
	listener := sc.join(t, "listener", map[string]any{"listenOnly": true})
	for round := range sourceRounds {
		producers := map[string]bool{}
		for _, u := range speakers {
			if round > 0 {
				u.call(t, "reproduce")
			}
			producers[u.state(t).Producer] = true
		}
		transport := listener.transports(t)["recv"].ID
		eventually(t, hearTimeout, func() error { return s.reported(t, transport, producers, round == sourceRounds-1) })
	}
}

// reported wants a receiver report on each consumer of these producers on a transport, and
// where there must be a loss, that the loss is shown.
func (s *server) reported(t *testing.T, transport string, producers map[string]bool, lost bool) error {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+filepath.Join(s.runDir, "worker-0.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	got, err := workerv1.NewWorkerServiceClient(conn).GetStats(t.Context(), &workerv1.GetStatsRequest{
		Target: &workerv1.GetStatsRequest_TransportId{TransportId: transport},
	})
	if err != nil {
		return err
	}
	reports := 0
	var packetsLost int64
	var again uint64
	for _, c := range got.GetConsumers() {
		if !producers[c.GetProducerId()] {
			continue
		}
		if c.JitterMs != nil {
			reports++
		}
		packetsLost += c.GetPacketsLost()
		again += c.GetRetransmitted()
	}
	switch {
	case reports < len(producers):
		return fmt.Errorf("reports on %d of %d consumers", reports, len(producers))
	case lost && packetsLost == 0:
		return fmt.Errorf("no loss is shown, %d packets were sent again", again)
	case lost:
		t.Logf("%d packets are lost, %d were sent again", packetsLost, again)
	}
	return nil
}
