package faults

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/errs"
)

func TestValidate(t *testing.T) {
	good := Config{Channels: 20, Users: 10, Restless: 20, TCP: 4, Workers: 1, Window: time.Second, Deadline: 5 * time.Second}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	bad := Config{Users: 1, Restless: -1, TCP: 1, Repeat: 1, Deadline: time.Hour, Faults: map[Kind]int{Kill: -1}}
	err := bad.Validate()
	if !errors.Is(err, errs.ErrInvalid) {
		t.Fatal(err)
	}
	for _, want := range []string{"channels 0", "users 1", "restless users -1", "over TCP 1", "workers 0", "repeated packets 1", "window 0s", "deadline 1h", "fault worker-kill"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
}

func TestParseFaults(t *testing.T) {
	usual := map[Kind]int{Kill: 200, Restart: 10}
	for _, row := range []struct {
		list string
		want map[Kind]int
	}{
		{"worker-kill", map[Kind]int{Kill: 200}},
		{"worker-kill=3,restart", map[Kind]int{Kill: 3, Restart: 10}},
		{"worker-kil", nil},
		{"worker-kill=many", nil},
		{"", usual},
	} {
		got, err := ParseFaults(row.list, usual)
		if !maps.Equal(got, row.want) || (err == nil) != (row.want != nil) {
			t.Errorf("%q is %v and %v, want %v", row.list, got, err, row.want)
		}
	}
}

func TestNotesStaySmall(t *testing.T) {
	n := &notes{}
	for i := range 1000 {
		n.fault("%d came", i)
	}
	n.fault("another")
	faults, _ := n.texts()
	if len(faults) != maxTexts+2 || faults[maxTexts] != "... and 996 more of the last kind" {
		t.Errorf("%q", faults)
	}
}
