package ident

import (
	"testing"
	"time"
)

func TestTimed(t *testing.T) {
	before := time.Now().Truncate(time.Millisecond)
	id := NewTimed()
	made, ok := TimeOf(id)
	if !ok || made.Before(before) || made.After(time.Now()) {
		t.Fatalf("%s was made at %v, %v", id, made, ok)
	}
	if next := NewTimed(); next <= id {
		t.Errorf("%s follows %s", next, id)
	}
	for _, other := range []string{"", "x", New(), "urn:uuid:" + New()} {
		if _, ok := TimeOf(other); ok {
			t.Errorf("%q tells a time", other)
		}
	}
}
