package wire

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/dspeak/sfu/internal/ident"
)

// FuzzPicture: what a picture writes itself is what encoding/json would write.
func FuzzPicture(f *testing.F) {
	f.Add("ann", "0193-x", 3)
	f.Add("a\"\\\n\u2028<é>", "\xff\x00\x7f", 1)
	f.Add("", "", 0)
	f.Fuzz(func(t *testing.T, user, producer string, n int) {
		var m CurrentlyInChannel
		want := struct {
			Type            string            `json:"type"`
			InRoom          []string          `json:"inRoom"`
			Producers       []string          `json:"producers"`
			ProducerUserMap map[string]string `json:"producerUserMap"`
		}{"currentlyInChannel", []string{}, []string{}, map[string]string{}}
		for i := range max(n, 0) % 5 {
			u, p := fmt.Sprint(user, i), fmt.Sprint(producer, i)
			m.InRoom = append(m.InRoom, ident.UserID(u))
			m.Producers = append(m.Producers, Production{ident.ProducerID(p), ident.UserID(u)})
			want.InRoom, want.Producers = append(want.InRoom, u), append(want.Producers, p)
			want.ProducerUserMap[p] = u
		}
		same(t, m, want)
		same(t, AvailableProducers{Producers: m.Producers}, map[string]any{
			"type": "available-producers", "data": map[string]any{"producers": want.Producers, "producerUserMap": want.ProducerUserMap},
		})
	})
}

// same fails when the message is not the JSON of what is wanted.
func same(t *testing.T, m Message, want any) {
	t.Helper()
	e, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got, wanted any
	if err := json.Unmarshal(e.Bytes(), &got); err != nil {
		t.Fatalf("%q: %v", e.Bytes(), err)
	}
	if err := json.Unmarshal(text, &wanted); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, wanted) {
		t.Errorf("%s, want %s", e.Bytes(), text)
	}
}

// BenchmarkPicture encodes what each newcomer to a crowd of a thousand gets.
func BenchmarkPicture(b *testing.B) {
	var m CurrentlyInChannel
	for i := range 1000 {
		u := ident.UserID(fmt.Sprintf("user-%031d", i))
		m.InRoom = append(m.InRoom, u)
		m.Producers = append(m.Producers, Production{ident.ProducerID(ident.NewTimed()), u})
	}
	for b.Loop() {
		e, err := Encode(m)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(e.Bytes())))
	}
}
