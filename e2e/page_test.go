package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// pageState is what the development page says of itself.
type pageState struct {
	Phase, Notice string
	Muted         bool
	Restored      int
	People        []struct {
		User   string
		Self   bool
		Speaks bool
		Level  float64
	}
}

// TestPage is a newcomer's first minute: the page in two tabs, and sound.
func TestPage(t *testing.T) {
	s := startServer(t, settings{})
	browser := lab.shared(t, chromium)
	url := strings.Replace(s.url("http"), "127.0.0.1", "localhost", 1)
	a, b := browser.open(t, url+"/?channel=lobby&user=ann"), browser.open(t, url+"/?channel=lobby&user=bob")
	for _, page := range []*tab{a, b} {
		page.mustEval(t, `document.querySelector('button[type=submit]').click()`, nil)
	}
	loud := func(page *tab, user string) func() error {
		return func() error {
			state := page.pageState(t)
			for _, person := range state.People {
				if person.User == user && person.Speaks && person.Level > 0.1 {
					return nil
				}
			}
			return fmt.Errorf("%s is not heard: %+v", user, state)
		}
	}
	for _, page := range []*tab{a, b} {
		eventually(t, hearTimeout, loud(page, "ann"))
		eventually(t, hearTimeout, loud(page, "bob"))
	}
	eventually(t, 20*time.Second, func() error {
		var cells [][]string
		a.mustEval(t, `return [...document.querySelectorAll('#transports tr')].map((row) => [...row.cells].map((cell) => cell.textContent))`, &cells)
		if len(cells) != 2 || cells[0][1] != "connected" || cells[1][1] != "connected" || !strings.HasSuffix(cells[0][4], "ms") || !strings.HasSuffix(cells[1][5], "%") {
			return fmt.Errorf("connection facts %q", cells)
		}
		return nil
	})

	a.mustEval(t, `document.dispatchEvent(new KeyboardEvent('keydown', {key: 'm', bubbles: true}))`, nil)
	eventually(t, hearTimeout, func() error {
		for _, person := range b.pageState(t).People {
			if person.User == "ann" && person.Level > 0 {
				return fmt.Errorf("ann is muted and has the level %.2f", person.Level)
			}
		}
		return nil
	})
	a.mustEval(t, `document.getElementById('mute').click()`, nil)
	eventually(t, hearTimeout, loud(b, "ann"))

	a.mustEval(t, `document.getElementById('reconnect').click()`, nil)
	eventually(t, hearTimeout, func() error {
		if state := a.pageState(t); state.Phase != "joined" || state.Restored != 1 {
			return fmt.Errorf("after a reconnect: %+v", state)
		}
		return nil
	})
	eventually(t, hearTimeout, loud(b, "ann"))

	b.mustEval(t, `document.getElementById('leave').click()`, nil)
	eventually(t, grace+hearTimeout, func() error {
		if people := a.pageState(t).People; len(people) != 1 {
			return fmt.Errorf("ann still sees %v", people)
		}
		return nil
	})
	noComplaints(t, a, b)
}

func (p *tab) pageState(t *testing.T) pageState {
	t.Helper()
	var state pageState
	p.mustEval(t, "return dspeak.state()", &state)
	return state
}

// noComplaints looks for errors in the consoles: a refusal by the content
// security policy is only told there.
func noComplaints(t *testing.T, pages ...*tab) {
	t.Helper()
	for _, page := range pages {
		value, err := page.browser.request(map[string]any{"op": "console", "page": page.name})
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		if err := json.Unmarshal(value, &lines); err != nil {
			t.Fatal(err)
		}
		bad := func(line string) bool {
			return !strings.HasPrefix(line, "error:") && !strings.HasPrefix(line, "uncaught:")
		}
		for _, line := range slices.DeleteFunc(lines, bad) {
			t.Errorf("console: %s", line)
		}
	}
}

// TestPageOnlyInDevelopment asks a production server for it.
func TestPageOnlyInDevelopment(t *testing.T) {
	s := startServer(t, settings{main: newMainServer(t), env: map[string]string{"NODE_ENV": "production"}})
	for _, path := range []string{"/", "/app.js"} {
		status, _, err := s.get(t.Context(), path)
		if err != nil || status != http.StatusNotFound {
			t.Errorf("%s in production: %d %v, want 404", path, status, err)
		}
	}
}
