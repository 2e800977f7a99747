package handshake

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

func ignore(Result)  {}
func discard([]byte) {}
func (p *Pool) alive() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live
}

// clientHello is a first record with a body of n bytes that never becomes whole.
func clientHello(seq uint64, n int) []byte {
	b := make([]byte, recordHeader+fragmentHeader+n)
	b[0], b[1], b[2] = typeHandshake, 0xfe, 0xfd
	binary.BigEndian.PutUint64(b[3:], seq) // epoch 0 and 48 bits of sequence number
	binary.BigEndian.PutUint16(b[11:], uint16(fragmentHeader+n))
	b[recordHeader] = typeClientHello
	b[recordHeader+1] = 0xff // a message of 16 MB
	b[recordHeader+7] = byte(seq)
	b[recordHeader+fragmentHeader-2], b[recordHeader+fragmentHeader-1] = byte(n>>8), byte(n)
	return b
}

func TestPoolRunsABoundedNumberAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, prints := newCert(t)
		p := newPool(t, Config{Certificate: cert, Concurrency: 2, Queue: 3, Timeout: 10 * time.Second})
		start := time.Now()
		var ended []time.Duration
		done := make(chan time.Duration, 10)
		params := Params{Role: Client, Remote: prints, Send: discard, Done: func(r Result) {
			if !errors.Is(r.Err, errs.ErrUnavailable) {
				t.Errorf("%v", r.Err)
			}
			done <- time.Since(start)
		}}
		for range 5 {
			if _, err := p.Start(params); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.Start(params); !errors.Is(err, errs.ErrExhausted) {
			t.Errorf("sixth handshake: %v", err)
		}
		for range 5 {
			ended = append(ended, <-done)
		}
		// Nobody answers: two places, each held for 10 s.
		for i, want := range []int{10, 10, 20, 20, 30} {
			if ended[i].Seconds() != float64(want) {
				t.Errorf("handshake %d ended after %v", i, ended[i])
			}
		}
		if _, err := p.Start(params); err != nil {
			t.Errorf("after all ended: %v", err)
		}
		p.Close()
		if n := p.alive(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

func TestManyHandshakesThroughANarrowPool(t *testing.T) {
	p := newPool(t, Config{Concurrency: 2})
	const n = 12
	links := make([]*link, 0, n)
	for range n {
		links = append(links, newLink(t, p, setup{role: Server}))
	}
	for _, l := range links {
		go func() { _ = l.peer.Handshake() }()
	}
	for _, l := range links {
		checkKeys(t, l, Server, l.mustFinish())
		l.close()
	}
}

func TestServerWaitsForAClientHelloWithoutAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, prints := newCert(t)
		p := newPool(t, Config{Certificate: cert})
		params := Params{Role: Server, Remote: prints, Send: discard, Done: ignore}
		h, err := p.Start(params)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		<-time.After(time.Hour) // idle handshakes have no timeout of their own
		for _, b := range strays() {
			h.Feed(b)
		}
		if got := phase(h.phase.Load()); got != idle || len(h.in) != 0 {
			t.Errorf("phase %d with %d datagrams before a hello", got, len(h.in))
		}
		h.Feed(clientHello(1, 100))
		synctest.Wait()
		if got := phase(h.phase.Load()); got != running {
			t.Errorf("phase %d after a hello", got)
		}
		h.Close()
		h.Close()
		h.Feed(clientHello(2, 100))
		p.Close()
		if n := p.alive(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

func TestClosedHandshakesAreNotReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, prints := newCert(t)
		p := newPool(t, Config{Certificate: cert, Concurrency: 1, Queue: 2})
		params := Params{Role: Client, Remote: prints, Send: discard, Done: func(r Result) { t.Errorf("reported: %v", r.Err) }}
		var hs []*Handshake
		for _, role := range []Role{Client, Client, Server} { // running, waiting, idle
			params.Role = role
			h, err := p.Start(params)
			if err != nil {
				t.Fatal(err)
			}
			hs = append(hs, h)
		}
		synctest.Wait()
		for _, h := range hs {
			h.Close()
		}
		synctest.Wait()
		if n := p.alive(); n != 0 {
			t.Errorf("%d left", n)
		}
		params.Done = ignore
		for range 3 { // all places are free again
			if _, err := p.Start(params); err != nil {
				t.Error(err)
			}
		}
		p.Close()
		p.Close()
		if _, err := p.Start(params); !errors.Is(err, errs.ErrClosed) {
			t.Errorf("start on a closed pool: %v", err)
		}
	})
}

func TestClosingTheLastWaitingOneFreesTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, prints := newCert(t)
		p := newPool(t, Config{Certificate: cert, Concurrency: 1})
		params := Params{Role: Client, Remote: prints, Send: discard, Done: ignore}
		first, err := p.Start(params)
		if err != nil {
			t.Fatal(err)
		}
		second, err := p.Start(params)
		if err != nil {
			t.Fatal(err)
		}
		second.Close()
		first.Close()
		synctest.Wait()
		p.mu.Lock()
		workers, active := p.running, len(p.active)
		p.mu.Unlock()
		if workers != 0 || active != 0 {
			t.Errorf("%d goroutines, %d active", workers, active)
		}
		p.Close()
	})
}

func TestStartChecksItsParameters(t *testing.T) {
	p := newPool(t, Config{})
	_, prints := newCert(t)
	good := Params{Role: Server, Remote: prints, Send: discard, Done: ignore}
	for name, change := range map[string]func(*Params){
		"no role":           func(p *Params) { p.Role = 0 },
		"a strange role":    func(p *Params) { p.Role = 3 },
		"no Send":           func(p *Params) { p.Send = nil },
		"no Done":           func(p *Params) { p.Done = nil },
		"no fingerprint":    func(p *Params) { p.Remote = nil },
		"SHA-1 only":        func(p *Params) { p.Remote = []Fingerprint{{"sha-1", "AB:CD"}} },
		"too many":          func(p *Params) { p.Remote = make([]Fingerprint, 17) },
		"not hexadecimal":   func(p *Params) { p.Remote = []Fingerprint{{"sha-256", "zz" + prints[0].Value[2:]}} },
		"too short":         func(p *Params) { p.Remote = []Fingerprint{{"sha-256", prints[0].Value[3:]}} },
		"of another length": func(p *Params) { p.Remote = []Fingerprint{{"sha-256", prints[1].Value}} },
		"without colons":    func(p *Params) { p.Remote = []Fingerprint{{"sha-256", "ABCD"}} },
	} {
		params := good
		change(&params)
		if _, err := p.Start(params); !errors.Is(err, errs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p.alive() != 0 {
		t.Errorf("%d left", p.alive())
	}
}

func TestNewPoolChecksItsConfiguration(t *testing.T) {
	cert, _ := newCert(t)
	for name, cfg := range map[string]Config{
		"no certificate":    {},
		"no key":            {Certificate: tls.Certificate{Certificate: cert.Certificate}},
		"a strange key":     {Certificate: tls.Certificate{Certificate: cert.Certificate, PrivateKey: "key"}},
		"negative width":    {Certificate: cert, Concurrency: -1},
		"negative timeout":  {Certificate: cert, Timeout: -1},
		"a tiny MTU":        {Certificate: cert, MTU: 20},
		"negative interval": {Certificate: cert, FlightInterval: -1},
	} {
		if _, err := NewPool(cfg); !errors.Is(err, errs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A peer that sends fragments without end makes a handshake hold a bounded amount.
func TestHostileFeedsAreBounded(t *testing.T) {
	cert, prints := newCert(t)
	p := newPool(t, Config{Certificate: cert, Concurrency: 20, Queue: 180})
	params := Params{Role: Server, Remote: prints, Send: discard, Done: ignore}
	var hs []*Handshake
	for range 200 {
		h, err := p.Start(params)
		if err != nil {
			t.Fatal(err)
		}
		hs = append(hs, h)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for round := range uint64(500) {
		b := clientHello(round, 1100)
		for _, h := range hs {
			h.Feed(b)
		}
		runtime.Gosched()
	}
	const perRunning, perWaiting = 2 * maxFed, 2 * earlySlots * 1200
	grown := int64(heap()) - int64(before)
	t.Logf("%d handshakes were fed %d MB each way and hold %d KB", len(hs), 200*500*1100>>20, grown>>10)
	if limit := int64(20*perRunning + 180*perWaiting); grown > limit {
		t.Errorf("%d bytes held, limit %d", grown, limit)
	}
	for _, h := range hs[20:] {
		if len(h.in) > earlySlots {
			t.Errorf("%d datagrams held for a waiting handshake", len(h.in))
			break
		}
	}
	runtime.KeepAlive(hs)
}
