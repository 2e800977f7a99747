package faults

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"
	"testing"
	"time"
)

const testSSRC = 77

// listener is an ear that hears one voice, whose slots are its sequence numbers.
func listener() (*ear, *voice) {
	c := &call{notes: &notes{}, seed: maphash.MakeSeed(), ears: map[*ear]bool{}}
	v := &voice{name: "ann", first: 1000}
	c.voices.Store("producer", v)
	e := newEar(&user{call: c, name: "bob"}, false)
	e.listen(testSSRC, "producer")
	return e, v
}

// packet is an RTP packet of a slot, with bytes of its own.
func packet(slot int, mark byte) []byte {
	b := make([]byte, 50)
	b[0], b[1], b[20] = 0x80, 100, mark
	binary.BigEndian.PutUint16(b[2:], uint16(slot))
	binary.BigEndian.PutUint32(b[4:], 1000+uint32(slot)*rtpStep)
	binary.BigEndian.PutUint32(b[8:], testSSRC)
	return b
}

func at(slot int) int64 { return int64(slot) * int64(packetTime) }

func TestWindow(t *testing.T) {
	for _, row := range []struct {
		name    string
		slots   []int
		end     int
		silence time.Duration
		lost    int64
	}{
		{"nothing happens", []int{10, 11, 12, 13}, 13, 0, 0},
		{"packets are lost", []int{10, 14, 15}, 15, 3 * packetTime, 3},
		{"one comes late", []int{10, 12, 11, 13}, 13, packetTime, 0},
		{"one comes twice", []int{10, 11, 11, 12}, 12, 0, 0},
		{"silence until the end", []int{10}, 20, 9 * packetTime, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			e, _ := listener()
			e.RTP(packet(8, 0), true, at(8))
			e.RTP(packet(9, 0), true, at(9))
			e.open()
			last := 0
			for _, slot := range row.slots {
				last = max(last, slot)
				e.RTP(packet(slot, 0), true, at(last))
			}
			booked := 0
			e.shut(at(row.end), func(overTCP bool, silence time.Duration, lost int64) {
				booked++
				if overTCP || silence != row.silence || lost != row.lost {
					t.Errorf("silence %v and %d lost, want %v and %d", silence, lost, row.silence, row.lost)
				}
			})
			if booked != 1 {
				t.Errorf("%d streams are booked", booked)
			}
		})
	}
}

func TestWindowWithoutThoseWhoLeave(t *testing.T) {
	e, v := listener()
	e.RTP(packet(8, 0), true, at(8))
	e.open()
	v.ended.Store(true)
	e.shut(at(100), func(bool, time.Duration, int64) { t.Error("a voice that has ended is booked") })
}

func TestOracle(t *testing.T) {
	e, v := listener()
	p := pair{ear: e, listener: "bob", producer: "producer", voice: v}
	hears := func(slot int64, want string) {
		t.Helper()
		got := strings.Join(unheard([]pair{p}, slot), "; ")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("after slot %d: %q, want %q", slot, got, want)
		}
	}
	hears(1, "no packet ever")
	e.RTP(packet(5, 0), true, at(5))
	hears(4, "")
	hears(5, "nothing after slot 5")
	p.producer = "another"
	hears(4, "not consumed")
	v.lost.Store(true)
	hears(4, "lost")
	v.lost.Store(false)
	v.ended.Store(true)
	hears(4, "")
}

func TestEarProves(t *testing.T) {
	for _, row := range []struct {
		name string
		send func(*ear)
		want Proof
	}{
		{"what was sent again", func(e *ear) { e.RTP(packet(9, 0), true, at(10)) }, Proof{RTP: 2, Duplicates: 1}},
		{"other bytes under an index", func(e *ear) { e.RTP(packet(9, 1), true, at(10)) }, Proof{RTP: 2, Clashes: 1}},
		{"a roll-over", func(e *ear) {
			e.RTP(packet(40_000, 0), true, at(11))
			e.RTP(packet(1<<16, 0), true, at(12))
		}, Proof{RTP: 4, RollOvers: 1}},
		{"RTCP with an index twice", func(e *ear) {
			e.RTCP(packet(1, 0), 1024, true)
			e.RTCP(packet(1, 1), 1024, true)
		}, Proof{RTP: 2, RTCP: 1, Clashes: 1}},
		{"a packet of another key", func(e *ear) { e.RTP(packet(10, 0), false, at(10)) }, Proof{RTP: 2, Unauthentic: 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			e, _ := listener()
			e.RTP(packet(8, 0), true, at(8))
			e.RTP(packet(9, 0), true, at(9))
			row.send(e)
			if got := e.end(); got != row.want {
				t.Errorf("%+v, want %+v", got, row.want)
			}
			faults, _ := e.notes.texts()
			if bad := row.want.Clashes+row.want.Unauthentic > 0; bad != (len(faults) > 0) {
				t.Errorf("the report says %q", faults)
			}
		})
	}
}

func TestApart(t *testing.T) {
	plan := []Kind{Stop, Segfault, Stop, Segfault, Kill, Kill, Kill, Kill}
	got := apart(slices.Clone(plan))
	row := 0
	for _, kind := range got {
		row++
		if !kind.own() {
			row = 0
		}
		if row > 2 {
			t.Fatalf("three in a row: %v", got)
		}
	}
	slices.Sort(plan)
	slices.Sort(got)
	if !slices.Equal(plan, got) {
		t.Errorf("the faults have changed: %v", got)
	}
}

func TestDistribution(t *testing.T) {
	var times []time.Duration
	for i := range 1000 {
		times = append(times, time.Duration(999-i))
	}
	want := Distribution{Count: 1000, P50: 499, P99: 989, Max: 999}
	if got := distribution(times); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := distribution(nil); got != (Distribution{}) {
		t.Errorf("of nothing: %+v", got)
	}
}
