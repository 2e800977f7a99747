package table

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// WriteText writes the table for a person.
func (t Table) WriteText(w io.Writer) error {
	cells := [][]string{{
		"load", "sizes", "packets/s", "lost", "CPU/packet", "floor", "ratio", "(range)", "p50", "p99", "worker CPU", "padding",
	}}
	for _, l := range t.Lines {
		cells = append(cells, l.cells())
	}
	var widths []int
	for _, row := range cells {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b bytes.Buffer // its writes do not fail
	fmt.Fprintf(&b, "%s\n\n", t.Machine)
	for i, row := range cells {
		for k, cell := range row {
			fmt.Fprintf(&b, "%s%s  ", strings.Repeat(" ", widths[k]-utf8.RuneCountInString(cell)), cell)
		}
		if i > 0 {
			b.WriteString(t.Lines[i-1].marks())
		}
		b.Truncate(len(bytes.TrimRight(b.Bytes(), " ")))
		b.WriteByte('\n')
	}
	if _, err := b.WriteTo(w); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

// cells are the columns of a line.
func (l Line) cells() []string {
	name := fmt.Sprintf("%dx%d", l.Speakers, l.Listeners)
	if l.Failed != "" {
		return []string{name, l.Sizes}
	}
	micro := func(d time.Duration) string { return fmt.Sprintf("%.2f µs", float64(d)/float64(time.Microsecond)) }
	milli := func(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) }
	r := &l.Report
	out := []string{name, l.Sizes, fmt.Sprintf("%.0f", l.PacketsPerSecond), fmt.Sprint(l.Lost), micro(r.CPUPerForwarded)}
	if r.Floor != nil {
		out = append(out, micro(r.Floor.CPUPerPacket), fmt.Sprintf("%.2f", r.Floor.Ratio), fmt.Sprintf("(%.2f-%.2f)", l.RatioLow, l.RatioHigh))
	} else {
		out = append(out, "-", "-", "-")
	}
	return append(out, milli(r.LatencyP50), milli(r.LatencyP99), fmt.Sprintf("%.0f %%", 100*r.WorkerShare), fmt.Sprintf("%.1f B", l.PaddingPerPacket))
}

// marks are the reasons to doubt a line.
func (l Line) marks() string {
	var marks []string
	mark := func(kind string, why ...string) {
		if len(why) > 0 {
			marks = append(marks, kind+": "+strings.Join(why, ", "))
		}
	}
	if l.Failed != "" {
		mark("FAILED", l.Failed)
	}
	mark("INVALID", l.Report.Invalid...)
	mark("DOUBTFUL", l.Report.Doubtful...)
	return strings.Join(marks, "; ")
}

// summary is a line for who waits for the table.
func (l Line) summary() string {
	return "  " + strings.TrimSpace(strings.Join(l.cells()[2:], "  ")+"  "+l.marks())
}
