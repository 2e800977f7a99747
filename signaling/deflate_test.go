package signaling

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/signaling/wire"
)

// What the browsers offer.
const (
	chromium = "permessage-deflate; client_max_window_bits"
	firefox  = "permessage-deflate"
)

func TestOffersDeflate(t *testing.T) {
	for _, row := range []struct {
		offer string
		want  bool
	}{
		{chromium, true},
		{firefox, true},
		{"", false},
		{"x-webkit-deflate-frame", false},
		{"permessage-deflate; server_no_context_takeover; client_no_context_takeover", true},
		{`Permessage-Deflate ; Client_Max_Window_Bits="10"`, true},
		{"permessage-deflate; server_max_window_bits=10", false}, // the library does not keep it
		{"permessage-deflate; server_max_window_bits=10, permessage-deflate", true},
		{"permessage-deflate; x=1", false},
		{"permessage-deflate;;;", false},
		{"permessage-bzip2, permessage-deflate; client_max_window_bits=9", true},
		{strings.Repeat("permessage-deflate;a,", 1000), false},
	} {
		if got := offersDeflate(http.Header{"Sec-Websocket-Extensions": {row.offer}}); got != row.want {
			t.Errorf("%.80q: %v", row.offer, got)
		}
	}
	if !offersDeflate(http.Header{"Sec-Websocket-Extensions": {"foo", firefox}}) {
		t.Error("the second header is not read")
	}
}

// rawClient is a WebSocket without a library: it sends any bytes and sees all.
type rawClient struct {
	t *testing.T
	net.Conn
	r      *bufio.Reader
	answer string // Sec-WebSocket-Extensions
}

func (h *harness) raw(t *testing.T, offer string) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.http.URL, "http://")) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	request := "GET /socket?auth=ann&channelId=c HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	if offer != "" {
		request += "Sec-WebSocket-Extensions: " + offer + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		t.Fatal(err)
	}
	c := &rawClient{t: t, Conn: conn, r: bufio.NewReader(conn)}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	_ = resp.Body.Close()
	c.answer = resp.Header.Get("Sec-Websocket-Extensions")
	return c
}

// frame reads one frame.
func (c *rawClient) frame() (first byte, payload []byte) {
	c.t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		c.t.Fatal(err)
	}
	size := uint64(head[1])
	switch size {
	case 126:
		var n [2]byte
		_, _ = io.ReadFull(c.r, n[:])
		size = uint64(binary.BigEndian.Uint16(n[:]))
	case 127:
		var n [8]byte
		_, _ = io.ReadFull(c.r, n[:])
		size = binary.BigEndian.Uint64(n[:])
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		c.t.Fatal(err)
	}
	return head[0], payload
}

// write sends a masked frame whose mask is zero. It reports whether the server took it.
func (c *rawClient) write(first byte, payload []byte) bool {
	head := []byte{first, 0x80 | byte(len(payload)%126)}
	if len(payload) > 125 {
		head[1] = 0x80 | 127
		head = binary.BigEndian.AppendUint64(head, uint64(len(payload)))
	}
	head = append(head, 0, 0, 0, 0)
	_, err := c.Write(append(head, payload...))
	return err == nil
}

// closed reads up to the close frame.
func (c *rawClient) closed() (code int, reason string) {
	c.t.Helper()
	for {
		first, payload := c.frame()
		if first == 0x88 {
			return int(binary.BigEndian.Uint16(payload)), string(payload[2:])
		}
	}
}

// inflate is what a client makes of a compressed message.
func inflate(t *testing.T, payload []byte) string {
	t.Helper()
	r := flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDeflate: browsers get large messages compressed, each on its own, and once for
// all of them; small ones, and clients that did not offer it, get them plain.
func TestDeflate(t *testing.T) {
	h := start(t, Config{})
	var users []ident.UserID
	for i := range 1000 {
		users = append(users, ident.UserID(fmt.Sprintf("user-%030d", i)))
	}
	big, small := encoded(t, wire.CurrentlyInChannel{InRoom: users}), encoded(t, wire.NewProducer{ProducerID: "p", UserID: "u"})
	for _, row := range []struct {
		name, offer string
		compressed  bool
	}{
		{"chromium", chromium, true},
		{"firefox", firefox, true},
		{"none", "", false},
		{"a window for the server", "permessage-deflate; server_max_window_bits=9", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := h.raw(t, row.offer)
			if got := strings.HasPrefix(c.answer, "permessage-deflate"); got != row.compressed {
				t.Fatalf("answered with %q", c.answer)
			}
			if row.compressed && (!strings.Contains(c.answer, "server_no_context_takeover") || !strings.Contains(c.answer, "client_no_context_takeover")) {
				t.Fatalf("answered with %q", c.answer)
			}
			c.frame()
			c.frame()
			s := h.backend.session(t)
			for range 3 {
				s.SendEncoded(small)
				s.SendEncoded(big)
				if first, payload := c.frame(); first != 0x81 || string(payload) != string(small.Bytes()) {
					t.Fatalf("%#x %s", first, payload)
				}
				first, payload := c.frame()
				if !row.compressed {
					if first != 0x81 || !bytes.Equal(payload, big.Bytes()) {
						t.Fatalf("%#x, %d bytes", first, len(payload))
					}
					continue
				}
				if first != 0xc1 || len(payload) > len(big.Bytes())/3 || inflate(t, payload) != string(big.Bytes()) {
					t.Fatalf("%#x, %d bytes of %d", first, len(payload), len(big.Bytes()))
				}
			}
			// And what the client compresses is understood.
			if row.compressed {
				var buf bytes.Buffer
				w, _ := flate.NewWriter(&buf, 9)
				_, _ = io.WriteString(w, `{"type":"ping"}`)
				_ = w.Flush()
				c.write(0xc1, bytes.TrimSuffix(buf.Bytes(), []byte{0, 0, 0xff, 0xff}))
				if _, payload := c.frame(); !strings.Contains(string(payload), `"pong"`) {
					t.Errorf("%s", payload)
				}
			}
		})
	}
}

func TestDeflatedOnce(t *testing.T) {
	e := encoded(t, wire.ForceDisconnect{Reason: strings.Repeat("x", 10_000)})
	d := newDeflater()
	var all sync.WaitGroup
	calls := make(chan struct{}, 100)
	for range 100 {
		all.Go(func() {
			e.Deflated(func(text []byte) []byte {
				calls <- struct{}{}
				return d.compress(text)
			})
		})
	}
	all.Wait()
	if len(calls) != 1 {
		t.Errorf("compressed %d times", len(calls))
	}
	if got := d.compress([]byte("x")); got != nil {
		t.Errorf("%d bytes for one", len(got))
	}
	if n := len(d.writers); n != runtime.GOMAXPROCS(0) {
		t.Errorf("%d writers are back", n)
	}
}

// bomb is a compressed message of so many zeros.
func bomb(size int) []byte {
	var buf bytes.Buffer
	w, _ := flate.NewWriter(&buf, 9)
	zeros := make([]byte, 1<<20)
	for ; size > 0; size -= len(zeros) {
		_, _ = w.Write(zeros)
	}
	_ = w.Flush()
	return bytes.TrimSuffix(buf.Bytes(), []byte{0, 0, 0xff, 0xff})
}

// TestBombs: what a small frame says may not be large, and what says nothing may not go
// on for ever. Neither takes memory.
func TestBombs(t *testing.T) {
	packed := bomb(64 << 20)
	if len(packed) > 66<<10 {
		t.Fatalf("the bomb has %d bytes", len(packed))
	}
	empty := bytes.Repeat([]byte{0, 0, 0, 0xff, 0xff}, 200) // blocks of nothing
	for _, row := range []struct {
		name string
		send func(*rawClient)
	}{
		{"one frame", func(c *rawClient) { c.write(0xc1, packed) }},
		{"fragments", func(c *rawClient) {
			c.write(0x41, packed[:1000])
			for rest := packed[1000:]; len(rest) > 0 && c.write(0x00, rest[:min(1000, len(rest))]); {
				rest = rest[min(1000, len(rest)):]
			}
		}},
		{"blocks of nothing", func(c *rawClient) {
			c.write(0x41, empty)
			for range 10_000 {
				if !c.write(0x00, empty) {
					return
				}
			}
		}},
		{"fragments of nothing", func(c *rawClient) {
			c.write(0x01, nil)
			for range 100_000 {
				if !c.write(0x00, nil) {
					return
				}
			}
		}},
		{"fragments of nothing among pings", func(c *rawClient) {
			c.write(0x01, nil)
			for i := range 100_000 {
				if i%1000 == 0 && !c.write(0x89, nil) || !c.write(0x00, nil) {
					return
				}
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := start(t, Config{Limits: Limits{CloseTimeout: patience, HeartbeatTimeout: time.Hour}})
			c := h.raw(t, chromium)
			c.frame()
			c.frame()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				row.send(c)
			}()
			if code, reason := c.closed(); code != wire.ClosePolicy || reason != wire.ReasonOversized {
				t.Errorf("closed with %d %q", code, reason)
			}
			runtime.ReadMemStats(&after)
			if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 16<<20 {
				t.Errorf("%d bytes were allocated", grown)
			}
			_ = c.Close()
			<-sent
			if got := h.backend.cause(t); got.Cause != wire.CauseOversized {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestPingsOnly: a client that says nothing but pings stays.
func TestPingsOnly(t *testing.T) {
	h := start(t, Config{Limits: Limits{MessageBytes: 100, Rate: 1e6, Burst: 1 << 20}})
	c := h.raw(t, "")
	c.frame()
	c.frame()
	for range 2000 {
		c.write(0x89, []byte("still here"))
		if first, payload := c.frame(); first != 0x8a || string(payload) != "still here" {
			t.Fatalf("%#x %q", first, payload)
		}
	}
}
