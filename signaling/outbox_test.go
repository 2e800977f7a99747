package signaling

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/signaling/wire"
)

func encoded(t *testing.T, m wire.Message) *wire.Encoded {
	t.Helper()
	e, err := wire.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// picture is one of either kind, with a number.
func picture(t *testing.T, kind wire.Kind, number int) *wire.Encoded {
	t.Helper()
	id := ident.UserID(fmt.Sprint("n", number))
	if kind == wire.KindProducers {
		return encoded(t, wire.AvailableProducers{Producers: []wire.Production{{ID: "p", UserID: id}}})
	}
	return encoded(t, wire.CurrentlyInChannel{InRoom: []ident.UserID{id}})
}

func TestOutboxReplacesPictures(t *testing.T) {
	o := newOutbox(4, 1<<20)
	room := func(n int) frame { return frame{text: picture(t, wire.KindInChannel, n), replaceable: true} }
	available := func(n int) frame { return frame{text: picture(t, wire.KindProducers, n), replaceable: true} }
	event := func(n int) frame {
		return frame{text: encoded(t, wire.ForceDisconnect{Reason: fmt.Sprint("e", n)})}
	}
	greeting := frame{text: picture(t, wire.KindInChannel, 0)}
	var want []string
	for _, f := range []struct {
		frame
		stays bool
	}{
		{greeting, true},
		{room(1), false},
		{available(1), false},
		{event(1), true},
		{room(2), false},
		{event(2), true},
		{available(2), true},
		{event(3), true},
		{room(3), true}, // the queue is full of events, and pictures come all the same
	} {
		if !o.put(f.frame) {
			t.Fatalf("no room for %s", f.text.Bytes())
		}
		if f.stays {
			want = append(want, string(f.text.Bytes()))
		}
	}
	if o.put(event(4)) {
		t.Error("the events have no bound")
	}
	frames, _ := o.take(nil)
	var got []string
	for _, f := range frames {
		got = append(got, string(f.text.Bytes()))
	}
	if !slices.Equal(got, want) {
		t.Errorf("queued\n%v, want\n%v", got, want)
	}
}

// TestSlowReaderOfPictures: a client that does not read gets no further pictures, is
// not thrown out for them, and sees the last one once it reads.
func TestSlowReaderOfPictures(t *testing.T) {
	h := start(t, Config{Limits: Limits{SendQueue: 10, WriteTimeout: patience, HeartbeatTimeout: time.Hour}})
	c := h.enter(t, "ann")
	s := h.backend.session(t)
	big := make([]ident.UserID, 20_000)
	for i := range big {
		big[i] = ident.UserID(fmt.Sprintf("user-%030d", i))
	}
	const pictures = 40 // of 0.8 MB: more than the kernel takes
	for i := range pictures {
		big[0] = ident.UserID(fmt.Sprint(i))
		s.SendPicture(encoded(t, wire.CurrentlyInChannel{InRoom: big}))
	}
	s.out.mu.Lock()
	waiting := len(s.out.frames)
	s.out.mu.Unlock()
	if waiting > 1 {
		t.Errorf("%d pictures wait", waiting)
	}
	last := -1
	for got := 0; last != pictures-1; got++ {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, text, err := c.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		var m struct{ InRoom []json.RawMessage }
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		var name string
		var number int
		if err := json.Unmarshal(m.InRoom[0], &name); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(name, &number); err != nil || number <= last {
			t.Fatalf("picture %q after %d", name, last)
		}
		last = number
	}
}

// pipeSession is a session whose writer writes into a pipe, and the times at which
// something came out of it.
func pipeSession(t *testing.T) (s *Session, writes func() []time.Duration) {
	t.Helper()
	server, client := net.Pipe()
	l := Limits{}.withDefaults()
	s = &Session{
		server: &Server{limits: l}, limits: l, raw: server, out: newOutbox(l.SendQueue, l.SendQueueBytes), cancel: func() {},
	}
	s.server.buffers.New = newBatch
	began := time.Now()
	var mu sync.Mutex
	var times []time.Duration
	var parts sync.WaitGroup
	parts.Go(func() {
		buf := make([]byte, 1<<20)
		for {
			if _, err := client.Read(buf); err != nil {
				return
			}
			mu.Lock()
			times = append(times, time.Since(began))
			mu.Unlock()
		}
	})
	parts.Go(s.write)
	t.Cleanup(func() {
		s.finish(wire.CloseCause{Cause: wire.CauseLost, Code: wire.CloseAbnormal}, true)
		_ = client.Close()
		_ = server.Close()
		parts.Wait()
	})
	return s, func() []time.Duration {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(times)
	}
}

// TestEventsOfCrowdsShareWrites: the first goes at once, those that follow within
// collectFor go together, and any other message takes them along at once.
func TestEventsOfCrowdsShareWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, writes := pipeSession(t)
		event := encoded(t, wire.NewProducer{ProducerID: "p", UserID: "u"})
		time.Sleep(time.Second)
		for range 10 { // 10 ms apart
			s.SendToCrowd(event)
			synctest.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if got, want := writes(), []time.Duration{time.Second, time.Second + collectFor, time.Second + 2*collectFor}; !slices.Equal(got, want) {
			t.Errorf("written at %v, want %v", got, want)
		}
		began := len(writes())
		at := 2*time.Second + 100*time.Millisecond
		for i := range 3 {
			s.SendToCrowd(event)
			if i == 2 {
				s.SendEncoded(event)
			}
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		if got, want := writes()[began:], []time.Duration{at, at + 2*time.Millisecond}; !slices.Equal(got, want) {
			t.Errorf("written at %v, want %v", got, want)
		}
	})
}

// TestQueuedMessagesShareWrites counts the writes of a burst.
func TestQueuedMessagesShareWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, writes := pipeSession(t)
		synctest.Wait()
		event := encoded(t, wire.NewProducer{ProducerID: "p", UserID: "u"})
		s.out.mu.Lock() // the writer sees them together
		for range 1000 {
			s.out.frames = append(s.out.frames, frame{text: event})
		}
		s.out.mu.Unlock()
		s.out.signal()
		bytes := 1000 * (len(event.Bytes()) + 2)
		if got, most := len(writes()), bytes/batchBytes+1; got > most {
			t.Errorf("%d messages took %d writes, want at most %d", 1000, got, most)
		}
	})
}

// TestFrameHeaders sends messages around each length at which a header grows.
func TestFrameHeaders(t *testing.T) {
	h := start(t, Config{})
	c := h.enter(t, "ann")
	s := h.backend.session(t)
	empty := len(encoded(t, wire.ForceDisconnect{}).Bytes())
	for _, size := range []int{empty, 125, 126, 127, copyBytes, copyBytes + 1, batchBytes, 65535, 65536, 65537, 3 * writeBytes} {
		s.Send(wire.ForceDisconnect{Reason: strings.Repeat("x", size-empty)})
		_, text, err := c.ReadMessage()
		if err != nil || len(text) != size {
			t.Fatalf("%d bytes of %d: %v", len(text), size, err)
		}
	}
}

// TestCloseFrameWaitsForTheFrameUnderWay: a frame that is partly written when the socket
// ends is written whole before the close frame.
func TestCloseFrameWaitsForTheFrameUnderWay(t *testing.T) {
	server, end := net.Pipe()
	l := Limits{CloseTimeout: patience}.withDefaults()
	s := &Session{server: &Server{limits: l}, limits: l, raw: server, out: newOutbox(l.SendQueue, l.SendQueueBytes), cancel: func() {}}
	s.server.buffers.New = newBatch
	var parts sync.WaitGroup
	parts.Go(s.write)
	t.Cleanup(func() {
		_, _ = server.Close(), end.Close()
		parts.Wait()
	})
	c := &rawClient{t: t, Conn: end, r: bufio.NewReader(end)}
	_ = end.SetDeadline(time.Now().Add(patience))
	big := encoded(t, wire.ForceDisconnect{Reason: strings.Repeat("x", 3*writeBytes)})
	s.SendEncoded(big)
	if _, err := c.r.Peek(1); err != nil { // it has begun
		t.Fatal(err)
	}
	s.SendEncoded(encoded(t, wire.ForceDisconnect{Reason: "dropped"}))
	s.finish(wire.CloseCause{Cause: wire.CauseClient, Code: wire.CloseNormal, Reason: "bye"}, true)
	if first, payload := c.frame(); first != 0x81 || string(payload) != string(big.Bytes()) {
		t.Fatalf("%#x, %d bytes of %d", first, len(payload), len(big.Bytes()))
	}
	if first, payload := c.frame(); first != 0x88 || string(payload[2:]) != "bye" {
		t.Errorf("%#x %.80q", first, payload)
	}
}

// TestBadFrames: a client that does not speak WebSocket is told so, and never within a
// frame of the server's.
func TestBadFrames(t *testing.T) {
	big := encoded(t, wire.ForceDisconnect{Reason: strings.Repeat("x", 6<<20)})
	for _, row := range []struct {
		name    string
		offer   string
		first   byte
		payload string
	}{
		{"reserved bits", "", 0xf1, "{}"},
		{"an opcode that does not exist", "", 0x83, "{}"},
		{"a fragment of nothing", "", 0x80, "{}"},
		{"a close code that does not exist", "", 0x88, "\x00\x01"},
		{"no deflate", chromium, 0xc1, "\xff\xff\xff"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := start(t, Config{Limits: Limits{CloseTimeout: patience, HeartbeatTimeout: time.Hour}})
			c := h.raw(t, row.offer)
			c.frame()
			c.frame()
			h.backend.session(t).SendEncoded(big)
			if _, err := c.r.Peek(1); err != nil { // it has begun
				t.Fatal(err)
			}
			c.write(row.first, []byte(row.payload))
			first, payload := c.frame()
			if first == 0xc1 {
				payload = []byte(inflate(t, payload))
			}
			if first&0xf != 1 || !bytes.Equal(payload, big.Bytes()) {
				t.Fatalf("%#x, %d bytes", first, len(payload))
			}
			if code, reason := c.closed(); code != wire.CloseProtocol || reason != wire.ReasonProtocol {
				t.Errorf("closed with %d %q", code, reason)
			}
			_ = c.Close()
			if got := h.backend.cause(t); got.Cause != wire.CauseProtocol {
				t.Errorf("%+v", got)
			}
		})
	}
}
