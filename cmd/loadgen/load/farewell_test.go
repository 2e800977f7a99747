package load

import (
	"slices"
	"testing"

	"github.com/dspeak/sfu/worker/handshake"
)

func TestFarewellIsUnderstood(t *testing.T) {
	certificate, prints, err := handshake.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	pool, err := handshake.NewPool(handshake.Config{Certificate: certificate})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var client, server *handshake.Handshake
	results := map[handshake.Role]chan handshake.Result{handshake.Client: make(chan handshake.Result, 1), handshake.Server: make(chan handshake.Result, 1)}
	start := func(role handshake.Role, send func([]byte)) *handshake.Handshake {
		h, err := pool.Start(handshake.Params{
			Role: role, Remote: prints, Send: send, Done: func(r handshake.Result) { results[role] <- r },
		})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	ready := make(chan struct{})
	server = start(handshake.Server, func(b []byte) { <-ready; client.Feed(b) })
	client = start(handshake.Client, func(b []byte) { server.Feed(slices.Clone(b)) })
	close(ready)
	atClient, atServer := <-results[handshake.Client], <-results[handshake.Server]
	if atClient.Err != nil || atServer.Err != nil {
		t.Fatal(atClient.Err, atServer.Err)
	}
	var sent [][]byte
	if err := farewell(t.Context(), atClient.State, func(b []byte) { sent = append(sent, slices.Clone(b)) }); err != nil {
		t.Fatal(err)
	}
	if len(sent) != 1 {
		t.Fatalf("%d datagrams, want 1", len(sent))
	}
	if closed, err := handshake.ParseAlert(atServer.State, sent[0]); err != nil || !closed {
		t.Fatalf("the server understands %v, %v", closed, err)
	}
	if err := farewell(t.Context(), []byte("x"), nil); err == nil {
		t.Fatal("no error of a broken state")
	}
}
