package faults

import (
	"fmt"
	"sync"
)

// maxTexts bounds the texts that are kept of each kind.
const maxTexts = 4

// notes collects what went wrong, for the report.
type notes struct {
	mu      sync.Mutex
	faults  gathered // guarded by mu
	remarks gathered // guarded by mu
	// say is told the texts that are kept; nil: nobody is.
	say func(string)
}

// gathered are texts by their format.
type gathered struct {
	formats []string // in the order of their first text
	texts   map[string][]string
	counts  map[string]int
}

// add keeps the first texts of each format and says whether it kept this one.
func (g *gathered) add(format, text string) bool {
	if g.texts == nil {
		g.texts, g.counts = map[string][]string{}, map[string]int{}
	}
	if g.counts[format] == 0 {
		g.formats = append(g.formats, format)
	}
	g.counts[format]++
	if g.counts[format] > maxTexts {
		return false
	}
	g.texts[format] = append(g.texts[format], text)
	return true
}

func (g *gathered) all() (all []string) {
	for _, format := range g.formats {
		all = append(all, g.texts[format]...)
		if more := g.counts[format] - maxTexts; more > 0 {
			all = append(all, fmt.Sprintf("... and %d more of the last kind", more))
		}
	}
	return all
}

// fault books what makes the run a failure.
func (n *notes) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.faults.add(format, text) && n.say != nil {
		n.say("FAULT " + text)
	}
}

// error books an error as a fault; nil is none.
func (n *notes) error(err error) {
	if err != nil {
		n.fault("%v", err)
	}
}

// remark keeps what explains the rest.
func (n *notes) remark(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.remarks.add(format, text) && n.say != nil {
		n.say(text)
	}
}

func (n *notes) texts() (faults, remarks []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.faults.all(), n.remarks.all()
}
