package process

import (
	"testing"
	"time"
)

func TestPeaksAreNoLoad(t *testing.T) {
	var r readings
	if got := r.load(); got != (Load{}) {
		t.Fatalf("without a reading %+v", got)
	}
	start := time.Unix(1000, 0)
	for i, row := range []struct {
		share, want float64
		since       int
	}{
		{0.9, 0.9, 0},
		{0.1, 0.1, 0},
		{0.8, 0.1, 0},
		{0.7, 0.1, 0},
		{0.6, 0.1, 0},
		{0.6, 0.1, 1},
		{0.6, 0.6, 2},
		{0.5, 0.5, 3},
		{0, 0, 4},
	} {
		r.add(start.Add(time.Duration(i)*time.Second), row.share)
		want := Load{Share: row.want, Since: start.Add(time.Duration(row.since) * time.Second)}
		if got := r.load(); got != want {
			t.Errorf("after %d readings %+v, want %+v", i+1, got, want)
		}
	}
}

func TestMeter(t *testing.T) {
	var m meter
	start := time.Unix(1000, 0)
	if _, ok := m.read(start, start, time.Hour); ok {
		t.Fatal("the first call has a reading")
	}
	got, ok := m.read(start.Add(time.Second), start.Add(2*time.Second), time.Hour+500*time.Millisecond)
	if want := (reading{start, 0.25}); !ok || got != want {
		t.Fatalf("got %+v, %v, want %+v", got, ok, want)
	}
	if got, ok := m.read(start.Add(3*time.Second), start.Add(3*time.Second), 0); !ok || got.share != 0 {
		t.Fatalf("a clock that goes back gives %+v, %v", got, ok)
	}
	if _, ok := m.read(start, start, 0); ok {
		t.Fatal("a reading of no time")
	}
}
