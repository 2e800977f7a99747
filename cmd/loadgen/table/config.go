package table

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dspeak/sfu/cmd/loadgen/load"
	"github.com/dspeak/sfu/internal/errs"
)

// Config says what to measure. The zero value is not valid.
type Config struct {
	// Rows are loads as speakers x listeners of one channel, for example "20x100".
	Rows []string
	// Sizes are the payload sizes with which each is measured, as load.Config's.
	Sizes []string
	// Rounds is how many windows of the worker, and as many of the floor, a row has.
	Rounds int
	// Duration is the time of counted sending to the worker in each row, all rounds together.
	Duration time.Duration
	// Programs is the directory of the supervisor and worker programs.
	Programs string
	// Env are further settings of the supervisor, as NAME=VALUE.
	Env []string
	// Progress is told of each row as it begins and ends; it may be nil.
	Progress func(string)
}

// row is one load to be measured.
type row struct {
	speakers, listeners int
	sizes               string
}

// rows are all loads in order: every size of the first, then of the second.
func (c Config) rows() ([]row, error) {
	var rows []row
	var faults []error
	for _, name := range c.Rows {
		speakers, listeners, _ := strings.Cut(name, "x")
		s, err1 := strconv.Atoi(speakers)
		l, err2 := strconv.Atoi(listeners)
		if err1 != nil || err2 != nil || s < 1 || l < 1 {
			faults = append(faults, fmt.Errorf("row %q, want speakers x listeners as in 20x100: %w", name, errs.ErrInvalid))
		}
		for _, sizes := range c.Sizes {
			rows = append(rows, row{speakers: s, listeners: l, sizes: sizes})
		}
	}
	if len(rows) == 0 {
		faults = append(faults, fmt.Errorf("no row to measure: %w", errs.ErrInvalid))
	}
	for _, r := range rows {
		err := r.load(c, target{url: "ws://127.0.0.1:1/", pid: 1, cpu: load.NoCPU}).Validate()
		if err != nil && len(faults) == 0 { // the rows share most of their faults
			faults = append(faults, fmt.Errorf("row %s: %w", r.name(), err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return rows, nil
}

// target is what is measured, and where the generator may run meanwhile.
type target struct {
	url string
	pid int
	cpu int
}

// load is the load of a row.
func (r row) load(c Config, t target) load.Config {
	return load.Config{
		URL: t.url, Channels: 1, Speakers: r.speakers, Listeners: r.listeners, Sizes: r.sizes, Payload: 120,
		PacketTime: 20 * time.Millisecond, Warmup: time.Second, Duration: c.Duration, Rounds: c.Rounds, Floor: true,
		JoinTimeout: time.Minute, CPU: t.cpu, PIDs: []int{t.pid}, Prefix: fmt.Sprintf("table-%s-%s", r.name(), r.sizes),
	}
}

func (r row) name() string { return fmt.Sprintf("%dx%d", r.speakers, r.listeners) }
