package interop

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/interop/wire"
)

const (
	maxMessageBytes = 256 << 10
	// flushTimeout bounds the writing of what is left when the link ends.
	flushTimeout = 2 * time.Second
	// closeTimeout is how long the main server has for its close frame.
	closeTimeout = time.Second
)

// connection is one WebSocket to the main server. Run's goroutine writes, one
// more reads.
type connection struct {
	link *Link
	conn *websocket.Conn
	// lost is closed by the reader, after it set readErr.
	lost    chan struct{}
	readErr error
	// confirmed is the number of the last ping that was answered.
	confirmed atomic.Uint64
}

// serve resynchronises, then writes what is sent until the connection or ctx
// ends, and returns after the reader did.
func (c *connection) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var reader sync.WaitGroup
	c.link.setUp(true)
	reader.Go(func() { c.read(ctx) })
	err := c.write(ctx)
	c.link.setUp(false)
	cancel()
	_ = c.conn.Close()
	reader.Wait()
	return err
}

// write is the only sender of messages.
func (c *connection) write(ctx context.Context) error {
	if err := c.resync(); err != nil {
		return err
	}
	ping := time.NewTicker(c.link.cfg.PingInterval)
	defer ping.Stop()
	for {
		if err := c.writeQueued(); err != nil {
			return err
		}
		select {
		case <-c.link.wake:
		case <-c.lost:
			return c.readErr
		case <-ping.C:
			if err := c.ping(); err != nil {
				return err
			}
		case <-ctx.Done():
			return c.end()
		}
	}
}

// resync tells the main server the whole truth: the status, every channel with
// its users, and the channels that it may still believe to have some.
func (c *connection) resync() error {
	status, channels := c.link.cfg.Backend.Snapshot()
	if err := c.writeMessage(status); err != nil {
		return err
	}
	stale := c.link.picture.known()
	for _, ch := range channels {
		delete(stale, ch.ChannelID)
		if err := c.writeMessage(wire.ChannelPresenceSync(ch)); err != nil {
			return err
		}
	}
	for id := range stale {
		if err := c.writeMessage(wire.ChannelPresenceSync{ChannelID: id}); err != nil {
			return err
		}
	}
	return nil
}

func (c *connection) writeQueued() error {
	messages, overflow := c.link.take()
	for _, m := range messages {
		if m == nil {
			continue // a later one replaces it
		}
		if err := c.writeMessage(m); err != nil {
			return err
		}
	}
	if overflow {
		return fmt.Errorf("more than %d messages wait: %w", c.link.cfg.Queue, errs.ErrExhausted)
	}
	return nil
}

func (c *connection) writeMessage(m wire.Message) error {
	b, err := wire.Encode(m)
	if err != nil {
		return err
	}
	c.link.picture.note(m)
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.link.cfg.WriteTimeout)); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := c.conn.WriteMessage(websocket.TextMessage, b); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// ping asks for a sign of life. Its answer also confirms all that was written before it.
func (c *connection) ping() error {
	c.link.picture.forget(c.confirmed.Load())
	number := strconv.FormatUint(c.link.picture.nextPing(), 10)
	if err := c.conn.WriteControl(websocket.PingMessage, []byte(number), time.Now().Add(c.link.cfg.WriteTimeout)); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// end writes what is left and says goodbye.
func (c *connection) end() error {
	by := time.Now().Add(flushTimeout)
	timer := time.AfterFunc(flushTimeout, func() { _ = c.conn.Close() })
	defer timer.Stop()
	if err := c.writeQueued(); err != nil {
		return err
	}
	goodbye := websocket.FormatCloseMessage(websocket.CloseGoingAway, "backend is stopping")
	if err := c.conn.WriteControl(websocket.CloseMessage, goodbye, by); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	wait := time.NewTimer(closeTimeout)
	defer wait.Stop()
	select {
	case <-c.lost:
	case <-wait.C:
	}
	return nil
}

// read takes the main server's messages until the connection ends.
func (c *connection) read(ctx context.Context) {
	defer close(c.lost)
	c.conn.SetReadLimit(maxMessageBytes)
	c.conn.SetPongHandler(func(number string) error {
		if n, err := strconv.ParseUint(number, 10, 64); err == nil {
			c.confirmed.Store(n)
		}
		return c.alive()
	})
	answerPing := c.conn.PingHandler()
	c.conn.SetPingHandler(func(data string) error {
		return errors.Join(c.alive(), answerPing(data))
	})
	for c.readErr = c.alive(); c.readErr == nil; {
		_, message, err := c.conn.ReadMessage()
		if err != nil {
			c.readErr = fmt.Errorf("read: %w", err)
			return
		}
		c.readErr = c.alive()
		c.handle(ctx, message)
	}
}

// alive moves the deadline of the keepalive on.
func (c *connection) alive() error {
	return c.conn.SetReadDeadline(time.Now().Add(2 * c.link.cfg.PingInterval))
}

// handle runs one message of the main server.
func (c *connection) handle(ctx context.Context, message []byte) {
	log := c.link.cfg.Log
	incoming, fault := wire.Decode(message)
	if fault != nil {
		log.Warn("bad message from the main server", "fault", fault.Error(), "bytes", len(message))
		if fault.Answer != "" {
			c.link.Send(wire.ErrorMessage{Text: fault.Answer})
		}
		return
	}
	switch m := incoming.(type) {
	case wire.ForceDisconnect:
		log.Info("forced disconnect", obs.KeyChannel, string(m.ChannelID))
		if err := c.link.cfg.Backend.ForceDisconnect(ctx, m.UserID, m.ChannelID, m.Reason); err != nil {
			log.Warn("forced disconnect refused", obs.KeyChannel, string(m.ChannelID), obs.KeyError, err.Error())
			c.link.Send(wire.ErrorMessage{Text: "force_disconnect: " + err.Error()})
		}
	case wire.ErrorMessage:
		log.Warn("error from the main server", obs.KeyReason, m.Text)
	}
}
