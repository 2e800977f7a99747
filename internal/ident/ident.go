// Package ident owns the identifiers that cross package and process borders,
// as distinct types so that one kind cannot stand in for another.
//
// It holds no state, starts no goroutine and imports nothing of the project.
package ident

import (
	"time"

	"github.com/google/uuid"
)

// ChannelID names a voice channel, as the main server chose it.
type ChannelID string

// UserID names a user, as the main server or the credential says.
type UserID string

// RouterID names a router: the media side of one channel on one worker.
type RouterID string

// TransportID names a WebRTC transport.
type TransportID string

// ProducerID names a producer.
type ProducerID string

// ConsumerID names a consumer.
type ConsumerID string

// Slot is the place of a worker, from 0. Its ports and its socket name follow from it.
type Slot uint32

// Generation counts the processes that have served a slot, from 1.
type Generation uint64

// Epoch counts how often a slot began with nothing, from 1. A process that goes on
// with its predecessor's state keeps it.
type Epoch uint64

// New returns a fresh random identifier (UUID version 4, RFC 9562).
func New() string { return uuid.NewString() }

// NewTimed returns a fresh identifier that tells when it was made (UUID version 7,
// RFC 9562).
func NewTimed() string { return uuid.Must(uuid.NewV7()).String() }

// TimeOf is when an identifier of NewTimed was made, to the millisecond; ok is false
// for any other text.
func TimeOf(id string) (made time.Time, ok bool) {
	u, err := uuid.Parse(id)
	if err != nil || u.Version() != 7 {
		return time.Time{}, false
	}
	ms := int64(0)
	for _, b := range u[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms), true
}
