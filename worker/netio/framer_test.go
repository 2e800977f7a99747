package netio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/worker/netio"
)

// frames is the wire form of packets.
func frames(ps ...[]byte) []byte {
	var out []byte
	for _, p := range ps {
		out = binary.BigEndian.AppendUint16(out, uint16(len(p)))
		out = append(out, p...)
	}
	return out
}

// feed gives a stream to a Framer in chunks and returns the frames.
func feed(f *netio.Framer, stream []byte, chunk int) ([][]byte, error) {
	var out [][]byte
	for len(stream) > 0 {
		n := copy(f.Space(), stream[:min(chunk, len(stream))])
		f.Filled(n)
		stream = stream[n:]
		for {
			frame, ok, err := f.Next()
			if err != nil {
				return out, err
			}
			if !ok {
				break
			}
			out = append(out, bytes.Clone(frame))
		}
	}
	return out, nil
}

func TestFramerCutsTheStreamHoweverItArrives(t *testing.T) {
	want := packets(1, 1500, 20, 300, 2, 1500, 1500, 1499)
	stream := frames(want...)
	for _, chunk := range []int{1, 2, 3, 7, 100, 1502, 4096, len(stream)} {
		got, err := feed(netio.NewFramer(1500), stream, chunk)
		if err != nil {
			t.Fatalf("chunks of %d: %v", chunk, err)
		}
		if len(got) != len(want) {
			t.Fatalf("chunks of %d: %d frames", chunk, len(got))
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("chunks of %d: frame %d differs", chunk, i)
			}
		}
	}
}

func TestFramerSkipsEmptyFrames(t *testing.T) {
	got, err := feed(netio.NewFramer(10), frames(nil, []byte("a"), nil, nil, []byte("b"), nil), 100)
	if err != nil || len(got) != 2 || string(got[0])+string(got[1]) != "ab" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFramerRefusesHostileLengths(t *testing.T) {
	for _, tc := range []struct {
		name   string
		stream []byte
		whole  int
	}{
		{"one too long", frames(make([]byte, 1501)), 0},
		{"the longest there is", []byte{0xff, 0xff}, 0},
		{"a web browser", []byte("GET / HTTP/1.1\r\n\r\n"), 0},
		{"after a good frame", append(frames([]byte("good")), 0xff, 0xff), 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := feed(netio.NewFramer(1500), tc.stream, 5)
			if !errors.Is(err, errs.ErrInvalid) || len(got) != tc.whole {
				t.Errorf("%d frames, %v", len(got), err)
			}
		})
	}
}

// FuzzFramer compares the Framer with a plain decoder of the whole stream.
func FuzzFramer(f *testing.F) {
	f.Add(frames([]byte("hello"), nil, make([]byte, 100)), uint8(3))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(1))
	f.Add([]byte{0, 0, 0, 0, 0, 1, 7, 0xff}, uint8(200))
	f.Fuzz(func(t *testing.T, stream []byte, chunk uint8) {
		const limit = 200
		got, err := feed(netio.NewFramer(limit), stream, int(chunk)+1)
		bad := false
		for len(stream) >= 2 && !bad {
			size := int(binary.BigEndian.Uint16(stream))
			if bad = size > limit; bad || len(stream) < 2+size {
				break
			}
			if size > 0 {
				if len(got) == 0 || !bytes.Equal(got[0], stream[2:2+size]) {
					t.Fatalf("frame %x is missing or differs: %x", stream[2:2+size], got)
				}
				got = got[1:]
			}
			stream = stream[2+size:]
		}
		if len(got) != 0 || (err != nil) != bad {
			t.Errorf("%d frames too many, error %v, want one: %v", len(got), err, bad)
		}
	})
}
