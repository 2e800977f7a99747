package wire

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dspeak/sfu/internal/ident"
)

func TestEncode(t *testing.T) {
	at := time.Date(2026, 11, 23, 1, 2, 3, 4_900_000, time.FixedZone("x", 3600))
	for _, row := range []struct {
		message Message
		want    string
	}{
		{MediaPresence{EventJoin, "u", "c", at, ""}, `{"type":"media_presence","event":"join","userId":"u","channelId":"c","timestamp":"2026-11-23T00:02:03.004Z"}`},
		{MediaPresence{EventRejoin, "u", "c", at, "back"}, `{"type":"media_presence","event":"rejoin","userId":"u","channelId":"c","timestamp":"2026-11-23T00:02:03.004Z","reason":"back"}`},
		{MediaProducer{EventAdd, "u", "c", "p", at}, `{"type":"media_producer","event":"add","userId":"u","channelId":"c","producerId":"p","timestamp":"2026-11-23T00:02:03.004Z"}`},
		{ChannelPresenceSync{"c", nil}, `{"type":"channel_presence_sync","channelId":"c","userIds":[]}`},
		{ChannelPresenceSync{"c", []ident.UserID{"u"}}, `{"type":"channel_presence_sync","channelId":"c","userIds":["u"]}`},
		{SfuStatus{StatusOK, "all well"}, `{"type":"sfu_status","status":"ok","details":"all well"}`},
		{SfuStatus{StatusError, ""}, `{"type":"sfu_status","status":"error","details":""}`},
		{ErrorMessage{"no"}, `{"type":"error","data":"no"}`},
	} {
		t.Run(fmt.Sprintf("%T", row.message), func(t *testing.T) {
			b, err := Encode(row.message)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if json.Unmarshal(b, &got) != nil || json.Unmarshal([]byte(row.want), &want) != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got  %s\nwant %s", b, row.want)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	const missing = "Invalid message format: missing type"
	for _, row := range []struct {
		name, frame string
		want        Incoming
		answer      string
		fault       bool
	}{
		{name: "a kick", frame: `{"type":"force_disconnect","userId":"u","channelId":"c"}`, want: ForceDisconnect{"u", "c", ""}},
		{name: "a kick with a reason", frame: `{"type":"force_disconnect","userId":"u","channelId":"c","reason":"be nice","x":1}`, want: ForceDisconnect{"u", "c", "be nice"}},
		{name: "a kick with a strange reason", frame: `{"type":"force_disconnect","userId":"u","channelId":"c","reason":7}`, want: ForceDisconnect{"u", "c", ""}},
		{name: "a long reason", frame: `{"type":"force_disconnect","userId":"u","channelId":"c","reason":"` + strings.Repeat("é", 400) + `"}`, want: ForceDisconnect{"u", "c", strings.Repeat("é", 256)}},
		{name: "an error", frame: `{"type":"error","data":"no"}`, want: ErrorMessage{"no"}},
		{name: "an error that is an object", frame: `{"type":"error","data":{"a":1}}`, want: ErrorMessage{`{"a":1}`}},

		{name: "not JSON", frame: `kick`, fault: true},
		{name: "no UTF-8", frame: "\"\xff\"", fault: true},
		{name: "no object", frame: `[1]`, fault: true, answer: missing},
		{name: "null", frame: `null`, fault: true, answer: missing},
		{name: "no type", frame: `{}`, fault: true, answer: missing},
		{name: "a numbered type", frame: `{"type":1}`, fault: true, answer: missing},
		{name: "a type in capitals", frame: `{"type":"Force_Disconnect"}`, fault: true, answer: "Unknown message type: Force_Disconnect"},
		{name: "a long type", frame: `{"type":"` + strings.Repeat("x", 999) + `"}`, fault: true, answer: "Unknown message type: " + strings.Repeat("x", 64)},
		{name: "a kick of nobody", frame: `{"type":"force_disconnect","channelId":"c"}`, fault: true, answer: "Invalid force_disconnect: missing or invalid userId"},
		{name: "a kick from nowhere", frame: `{"type":"force_disconnect","userId":"u","channelId":""}`, fault: true, answer: "Invalid force_disconnect: missing or invalid channelId"},
		{name: "a kick by numbers", frame: `{"type":"force_disconnect","userId":1,"channelId":2}`, fault: true, answer: "Invalid force_disconnect: missing or invalid userId and channelId"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, fault := Decode([]byte(row.frame))
			if !reflect.DeepEqual(got, row.want) || (fault != nil) != row.fault {
				t.Errorf("got %#v, %v", got, fault)
			}
			if fault != nil && fault.Answer != row.answer {
				t.Errorf("answer %q, want %q", fault.Answer, row.answer)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"type":"force_disconnect","userId":"u","channelId":"c","reason":"be nice"}`,
		`{"type":"error","data":"no"}`, `{"type":"error","data":[1]}`, `{"type":"x"}`, `{}`, `null`, `kick`, `{"type":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		got, fault := Decode(frame)
		if (got == nil) == (fault == nil) {
			t.Fatal("want a message or a fault")
		}
		if fault != nil && fault.Error() == "" {
			t.Fatal("a fault without a text")
		}
		if fault != nil && (len(fault.Answer) > 512 || !utf8.ValidString(fault.Answer)) {
			t.Fatalf("answer %q", fault.Answer)
		}
		if kick, ok := got.(ForceDisconnect); ok && (kick.UserID == "" || kick.ChannelID == "") {
			t.Fatal("a kick without ids")
		}
	})
}
