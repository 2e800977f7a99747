package faults

import (
	"errors"
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
	for _, want := range []string{"channels 0", "users 1", "restless users -1", "over TCP 1", "workers 0", "repeated packets 1", "window 0s", "deadline 1h", "fault kill"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
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
