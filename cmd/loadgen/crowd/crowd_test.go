package crowd

import (
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/signaling/wire"
)

func TestCountPicture(t *testing.T) {
	for n := range 4 {
		var m wire.CurrentlyInChannel
		for i := range n {
			m.InRoom = append(m.InRoom, ident.UserID(rune('a'+i)), ident.UserID(rune('A'+i)))
			m.Producers = append(m.Producers, wire.Production{ID: ident.ProducerID(rune('p' + i)), UserID: "u"})
		}
		e, err := wire.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if users, producers := countPicture(e.Bytes()); users != 2*n || producers != n {
			t.Errorf("%s: %d users, %d producers", e.Bytes(), users, producers)
		}
		if kind := kindOf(e.Bytes()); kind != "currentlyInChannel" {
			t.Errorf("%s is of kind %q", e.Bytes(), kind)
		}
	}
	if kind := kindOf([]byte(`{"x":1}`)); kind != "" {
		t.Errorf("kind %q", kind)
	}
}

func TestSummary(t *testing.T) {
	if got := summary(nil); got != (Waits{}) {
		t.Errorf("%+v", got)
	}
	var waits []time.Duration
	for i := range 1000 {
		waits = append(waits, time.Duration(1000-i))
	}
	if got := summary(waits); got != (Waits{Pings: 1000, P50: 501, P99: 991, Max: 1000}) {
		t.Errorf("%+v", got)
	}
}

func TestValidate(t *testing.T) {
	good := Config{URL: "ws://127.0.0.1:1/socket", Users: 10, PerAddress: 800, Timeout: time.Second}
	for name, row := range map[string]struct {
		edit func(*Config)
		ok   bool
	}{
		"plain":               {func(*Config) {}, true},
		"listeners":           {func(c *Config) { c.Speakers, c.Hear = 1, 9 }, true},
		"no users":            {func(c *Config) { c.Users = 0 }, false},
		"nobody listens":      {func(c *Config) { c.Speakers = 10 }, false},
		"hear without speech": {func(c *Config) { c.Hear = 1 }, false},
		"too many hear":       {func(c *Config) { c.Speakers, c.Hear = 1, 10 }, false},
		"both roles":          {func(c *Config) { c.Produce, c.Speakers = true, 1 }, false},
		"another scheme":      {func(c *Config) { c.URL = "http://x/" }, false},
	} {
		c := good
		if row.edit(&c); (c.Validate() == nil) != row.ok {
			t.Errorf("%s: %v", name, c.Validate())
		}
	}
}
