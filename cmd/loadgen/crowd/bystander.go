package crowd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/internal/errs"
)

// BystanderCommand is what the program starts itself as for the user of another channel.
const BystanderCommand = "crowd-bystander"

// pingEvery is the pause of the bystander between an answer and its next ping.
const pingEvery = 5 * time.Millisecond

// Waits are how long the bystander waited for its answers.
type Waits struct {
	Pings int           `json:"pings"`
	P50   time.Duration `json:"p50Ns"`
	P99   time.Duration `json:"p99Ns"`
	Max   time.Duration `json:"maxNs"`
}

// Bystander pings at the socket until its input ends, and writes one line of Waits for
// each line that it reads: those since the line before.
func Bystander(ctx context.Context, address string, in io.Reader, out io.Writer) error {
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, address, nil)
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close() // the dialer has read what there is
	}
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer func() { _ = conn.Close() }()
	lines := make(chan struct{})
	go func() { // ends with the process's input
		defer close(lines)
		one := make([]byte, 1)
		for {
			if _, err := in.Read(one); err != nil {
				return
			}
			lines <- struct{}{}
		}
	}()
	var waits []time.Duration
	encoder := json.NewEncoder(out)
	for {
		wait, err := pingOnce(conn)
		if err != nil {
			return err
		}
		waits = append(waits, wait)
		select {
		case _, ok := <-lines:
			if !ok {
				return nil
			}
			if err := encoder.Encode(summary(waits)); err != nil {
				return fmt.Errorf("report: %w", err)
			}
			waits = nil
		case <-time.After(pingEvery):
		}
	}
}

func pingOnce(conn *websocket.Conn) (time.Duration, error) {
	began := time.Now()
	if err := conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping"}`)); err != nil {
		return 0, fmt.Errorf("ping: %w", err)
	}
	for {
		_, text, err := conn.ReadMessage()
		if err != nil {
			return 0, fmt.Errorf("await pong: %w", err)
		}
		if kindOf(text) == "pong" {
			return time.Since(began), nil
		}
	}
}

func summary(waits []time.Duration) Waits {
	if len(waits) == 0 {
		return Waits{}
	}
	slices.Sort(waits)
	at := func(share float64) time.Duration { return waits[min(int(share*float64(len(waits))), len(waits)-1)] }
	return Waits{Pings: len(waits), P50: at(0.5), P99: at(0.99), Max: waits[len(waits)-1]}
}

// bystander is the process.
type bystander struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	reports *json.Decoder
}

func startBystander(ctx context.Context, base, channel string) (*bystander, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	query := url.Values{"auth": {channel}, "channelId": {channel}}
	b := &bystander{cmd: exec.CommandContext(ctx, self, BystanderCommand, base+"?"+query.Encode())} //nolint:gosec // ourselves
	b.cmd.Stderr = os.Stderr
	out, err := b.cmd.StdoutPipe()
	if err == nil {
		b.in, err = b.cmd.StdinPipe()
	}
	if err == nil {
		err = b.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start bystander: %w", err)
	}
	b.reports = json.NewDecoder(out)
	_, err = b.lap() // it pings now
	return b, err
}

// lap returns the waits since the last lap.
func (b *bystander) lap() (Waits, error) {
	if b == nil {
		return Waits{}, nil
	}
	var w Waits
	_, err := b.in.Write([]byte{'\n'})
	if err == nil {
		err = b.reports.Decode(&w)
	}
	if err != nil {
		return w, fmt.Errorf("bystander ended: %w: %w", err, errs.ErrUnavailable)
	}
	return w, nil
}

func (b *bystander) stop() error {
	return errors.Join(b.in.Close(), b.cmd.Wait())
}
