package table

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dspeak/sfu/cmd/loadgen/load"
	"github.com/dspeak/sfu/internal/errs"
)

// Table is what was measured. Durations are nanoseconds in JSON.
type Table struct {
	Machine Machine `json:"machine"`
	Lines   []Line  `json:"lines"`
}

// Line is one row of the table.
type Line struct {
	Speakers  int    `json:"speakers"`
	Listeners int    `json:"listeners"`
	Sizes     string `json:"sizes"`
	// PacketsPerSecond is how many forwarded packets arrived in a second of the windows.
	PacketsPerSecond float64 `json:"packetsPerSecond"`
	Lost             uint64  `json:"lost"`
	// RatioLow and RatioHigh are the extremes of the rounds' ratios to the floor.
	RatioLow  float64 `json:"ratioLow"`
	RatioHigh float64 `json:"ratioHigh"`
	// PaddingPerPacket is how many bytes of padding the worker added to a packet in
	// the whole row, warm-up included.
	PaddingPerPacket float64 `json:"paddingPerPacketBytes"`
	// Failed tells why the row could not be measured; empty: it was.
	Failed string      `json:"failed,omitempty"`
	Report load.Report `json:"report"`
}

// Run measures all rows. A row that fails is told in its line, the others are
// measured all the same; the error then says how many failed. The whole process
// stays pinned to a CPU that the worker does not use.
func Run(ctx context.Context, cfg Config) (table Table, err error) {
	rows, err := cfg.rows()
	if err != nil {
		return table, err
	}
	s, err := startServer(ctx, cfg)
	if err != nil {
		return table, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	table.Machine = readMachine()
	failed := 0
	for i, r := range rows {
		cfg.tell("%d of %d: %s %s", i+1, len(rows), r.name(), r.sizes)
		line := s.measure(ctx, cfg, r)
		if ctx.Err() != nil {
			return table, ctx.Err()
		}
		if line.Failed != "" {
			failed++
		}
		table.Lines = append(table.Lines, line)
		cfg.tell("%s", line.summary())
	}
	if failed > 0 {
		err = fmt.Errorf("%d of %d rows could not be measured: %w", failed, len(rows), errs.ErrUnavailable)
	}
	return table, err
}

func (c Config) tell(format string, args ...any) {
	if c.Progress != nil {
		c.Progress(fmt.Sprintf(format, args...))
	}
}

// measure is one row, begun when the worker has nothing left of the one before.
func (s *server) measure(ctx context.Context, cfg Config, r row) Line {
	line := Line{Speakers: r.speakers, Listeners: r.listeners, Sizes: r.sizes}
	t, err := s.idle(ctx)
	var before, after sentCounts
	if err == nil {
		before, err = s.sent(ctx)
	}
	if err == nil {
		line.Report, err = load.Run(ctx, r.load(cfg, t))
	}
	if err == nil {
		after, err = s.sent(ctx)
	}
	if err != nil {
		line.Failed = strings.ReplaceAll(err.Error(), "\n", "; ")
		return line
	}
	line.sum()
	line.PaddingPerPacket = after.paddingSince(before)
	return line
}

// sum derives what the report does not tell.
func (l *Line) sum() {
	var elapsed time.Duration
	for i, round := range l.Report.Rounds {
		elapsed += round.Elapsed
		if i == 0 || round.Ratio < l.RatioLow {
			l.RatioLow = round.Ratio
		}
		l.RatioHigh = max(l.RatioHigh, round.Ratio)
	}
	if elapsed > 0 {
		l.PacketsPerSecond = float64(l.Report.Delivered) / elapsed.Seconds()
	}
	l.Lost = l.Report.Expected - min(l.Report.Delivered, l.Report.Expected)
}
