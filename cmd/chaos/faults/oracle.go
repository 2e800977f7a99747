package faults

import (
	"fmt"
	"time"
)

// settled is how long a new speaker or listener may take to be heard or to hear.
const settled = time.Second

// pair is a speaker that a listener of the same channel should hear.
type pair struct {
	ear      *ear
	listener string
	producer string
	voice    *voice
}

// pairs are all that there should be: who has come or begun to speak less than
// settled ago is left out.
func (c *call) pairs(now time.Time) (all []pair) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := func(at time.Time) bool { return !at.IsZero() && now.Sub(at) > settled }
	for _, listener := range c.users {
		if listener.ear == nil || !old(listener.since) {
			continue
		}
		for _, speaker := range c.users {
			if speaker == listener || speaker.channel != listener.channel || speaker.producer == "" || !old(speaker.spoke) {
				continue
			}
			all = append(all, pair{ear: listener.ear, listener: listener.name, producer: speaker.producer, voice: c.voice(speaker.producer)})
		}
	}
	return all
}

// unheard is the audibility oracle: it names those pairs of which nothing was heard
// that was sent after the slot. A pair whose speaker or listener left on purpose
// does not count; one whose user lost the session is never heard again.
func unheard(pairs []pair, slot int64) (missing []string) {
	for _, p := range pairs {
		if err := p.unheard(slot); err != nil {
			missing = append(missing, fmt.Sprintf("%s does not hear %s: %v", p.listener, p.voice.name, err))
		}
	}
	return missing
}

func (p pair) unheard(slot int64) error {
	if p.voice.lost.Load() || p.ear.lost.Load() {
		return fmt.Errorf("%w: a session was lost", errSilent)
	}
	highest, ended, err := p.ear.hears(p.producer)
	switch {
	case ended || p.voice.ended.Load():
		return nil
	case err == nil && highest <= slot:
		return fmt.Errorf("%w: nothing after slot %d, only up to %d", errSilent, slot, highest)
	}
	return err
}
