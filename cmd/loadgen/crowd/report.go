package crowd

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dspeak/sfu/cmd/loadgen/load"
)

// Report is what was measured. Durations are nanoseconds in JSON.
type Report struct {
	Users int `json:"users"`
	// Delayed is how often a client was told to come later, and did.
	Delayed uint64  `json:"delayed"`
	Phases  []Phase `json:"phases"`
}

// Phase is what all users did at once.
type Phase struct {
	Name string `json:"name"`
	// Took is until all were done, Settled until everyone saw everyone.
	Took     time.Duration `json:"tookNs"`
	Settled  time.Duration `json:"settledNs"`
	Failures int           `json:"failures"`
	// JoinCPU is what the supervisor used until all were done, CPU until all was settled.
	JoinCPU time.Duration `json:"doneCpuNs"`
	CPU     time.Duration `json:"cpuNs"`
	// Of a user, up to the settled state: bytes on the wire, pictures and their bytes
	// before compression, and events.
	Bytes        float64 `json:"bytesPerUser"`
	Pictures     float64 `json:"picturesPerUser"`
	PictureBytes float64 `json:"pictureBytesPerUser"`
	Events       float64 `json:"eventsPerUser"`
	// Waits are the bystander's until all were done, SettleWaits those until all was settled.
	Waits       Waits `json:"bystander"`
	SettleWaits Waits `json:"bystanderSettling"`
}

// Failures is how many users failed in all phases.
func (r Report) Failures() int {
	n := 0
	for _, p := range r.Phases {
		n += p.Failures
	}
	return n
}

// reading is the state of all counters.
type reading struct {
	cpu                                   time.Duration
	bytes, pictures, pictureBytes, events uint64
}

func (r *run) reading() (reading, error) {
	var now reading
	if r.cfg.PID > 0 {
		var err error
		if now.cpu, err = load.CPUTime(r.cfg.PID); err != nil {
			return now, err
		}
	}
	for _, u := range r.users {
		now.bytes += u.bytes.Load()
		now.pictures += u.pictures.Load()
		now.pictureBytes += u.pictureBytes.Load()
		now.events += u.events.Load()
	}
	return now, nil
}

func (p *Phase) count(before, after reading, users int) {
	each := func(before, after uint64) float64 { return float64(after-before) / float64(users) }
	p.CPU = after.cpu - before.cpu
	p.Bytes, p.Pictures = each(before.bytes, after.bytes), each(before.pictures, after.pictures)
	p.PictureBytes, p.Events = each(before.pictureBytes, after.pictureBytes), each(before.events, after.events)
}

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer) error {
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	row := func(columns ...string) { _, _ = io.WriteString(t, strings.Join(columns, "\t")+"\n") } // a Builder takes everything
	row("phase", "all done", "all see all", "failures", "CPU/user done", "settled", "KiB/user", "pictures", "KiB before compression", "events",
		"bystander p50", "p99", "max", "settling p99", "max")
	for _, p := range r.Phases {
		each := func(d time.Duration) string {
			return (d / time.Duration(max(r.Users, 1))).Round(10 * time.Microsecond).String()
		}
		short := func(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }
		number := func(n float64) string { return strconv.FormatFloat(n, 'f', 1, 64) }
		row(p.Name, p.Took.Round(10*time.Millisecond).String(), p.Settled.Round(10*time.Millisecond).String(), strconv.Itoa(p.Failures),
			each(p.JoinCPU), each(p.CPU), number(p.Bytes/1024), number(p.Pictures), number(p.PictureBytes/1024), number(p.Events),
			short(p.Waits.P50), short(p.Waits.P99), short(p.Waits.Max), short(p.SettleWaits.P99), short(p.SettleWaits.Max))
	}
	_ = t.Flush() // as above
	if _, err := fmt.Fprintf(w, "%d users, %d times told to come later\n%s", r.Users, r.Delayed, text.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
