package interop

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
)

const credential = "secret token with spaces"

// mainHTTP serves one handler as the main server under the path /base.
func mainHTTP(t *testing.T, handler http.HandlerFunc) *API {
	t.Helper()
	server := httptest.NewServer(handler)
	a, err := NewAPI(APIConfig{BaseURL: server.URL + "/base/", Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.CloseIdle()
		server.Close()
	})
	return a
}

func TestValidate(t *testing.T) {
	var elsewhere atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Store(true) }))
	defer other.Close()
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for _, row := range []struct {
		name    string
		handler http.HandlerFunc
		user    ident.UserID
		refused bool
		status  int
	}{
		{name: "accepted", handler: answer(200, `{"isMedia":true}`), user: credential},
		{name: "named", handler: answer(201, `{"isMedia":true,"userId":"ann","x":[]}`), user: "ann"},
		{name: "named by a number", handler: answer(200, `{"isMedia":true,"userId":42}`), user: "42"},
		{name: "named by nothing", handler: answer(200, `{"isMedia":true,"userId":""}`), user: credential},
		{name: "named by null", handler: answer(200, `{"isMedia":true,"userId":null}`), user: credential},
		{name: "named by an object", handler: answer(200, `{"isMedia":true,"userId":{}}`), user: credential},
		{name: "another place for the credential", handler: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != credential || r.URL.Path != "/base/dspeak/channel/details" || r.URL.Query().Get("id") != "a/b?c&d+e" {
				w.WriteHeader(500)
			}
			_, _ = w.Write([]byte(`{"isMedia":true}`))
		}, user: credential},
		{name: "a redirect on the server", handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/new" {
				http.Redirect(w, r, "/new", http.StatusFound)
				return
			}
			_, _ = w.Write([]byte(`{"isMedia":true,"userId":"` + r.Header.Get("Authorization")[:6] + `"}`))
		}, user: "secret"},

		{name: "refused", handler: answer(403, `{"isMedia":true}`), refused: true, status: 403},
		{name: "broken", handler: answer(500, ``), refused: true, status: 500},
		{name: "a redirect elsewhere", handler: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusFound)
		}, refused: true, status: 302},
		{name: "redirects without end", handler: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String()+"x", http.StatusFound)
		}, refused: true, status: 302},
		{name: "no media", handler: answer(200, `{"isMedia":false}`), refused: true},
		{name: "a text for media", handler: answer(200, `{"isMedia":"true"}`), refused: true},
		{name: "other letters", handler: answer(200, `{"ismedia":true}`), refused: true},
		{name: "an array", handler: answer(200, `[]`), refused: true},

		{name: "no JSON", handler: answer(200, `<html>`)},
		{name: "nothing", handler: answer(200, ``)},
		{name: "too much", handler: answer(200, `{"isMedia":true,"x":"`+strings.Repeat("x", maxAnswerBytes)+`"}`)},
		{name: "slow", handler: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{name: "slow in the middle", handler: func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"isMedia":`))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
		{name: "cut off", handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			user, err := mainHTTP(t, row.handler).Validate(t.Context(), credential, "a/b?c&d+e")
			if user != row.user || (err == nil) != (row.user != "") {
				t.Fatalf("got %q, %v", user, err)
			}
			if err == nil {
				return
			}
			refused, ok := errors.AsType[*RefusedError](err)
			if ok != row.refused || ok && refused.RefusalStatus() != row.status {
				t.Errorf("got %v", err)
			}
			if want := map[bool]error{true: errs.ErrDenied, false: errs.ErrUnavailable}[row.refused]; !errors.Is(err, want) {
				t.Errorf("%v is no %v", err, want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the credential is in %v", err)
			}
		})
	}
	if elsewhere.Load() {
		t.Error("the credential went elsewhere")
	}
}

func TestValidateUnreachable(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	base := server.URL
	server.Close()
	a, err := NewAPI(APIConfig{BaseURL: base})
	if err != nil {
		t.Fatal(err)
	}
	for _, cred := range []string{"x", "a\r\nb"} {
		if _, err := a.Validate(t.Context(), cred, "c"); !errors.Is(err, errs.ErrUnavailable) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
	}
}

func TestBadAddresses(t *testing.T) {
	for _, base := range []string{"", "api.example.org", "ftp://x", "http://", "http://secret@x", "http://[::1"} {
		if _, err := NewAPI(APIConfig{BaseURL: base}); !errors.Is(err, errs.ErrInvalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("API at %q: %v", base, err)
		}
		if _, err := NewLink(LinkConfig{BaseURL: strings.Replace(base, "http", "ws", 1)}); !errors.Is(err, errs.ErrInvalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("link to %q: %v", base, err)
		}
	}
}

func TestICEServers(t *testing.T) {
	const good = `[{"urls":"stun:stun.example.org"},{"urls":["turn:t.example.org?transport=udp","turns:t.example.org"],"username":"u","credential":"p"}]`
	for _, row := range []struct {
		name   string
		status int
		body   string
		want   string
		bad    bool
	}{
		{"a list", 200, " " + good + "\n", good, false},
		{"an empty list", 200, `[]`, "", false},
		{"null", 200, `null`, "", false},
		{"an object", 200, `{"iceServers":[]}`, "", true},
		{"no urls", 200, `[{"username":"u"}]`, "", true},
		{"urls of a strange scheme", 200, `[{"urls":"http://x"}]`, "", true},
		{"an empty list of urls", 200, `[{"urls":[]}]`, "", true},
		{"a number among urls", 200, `[{"urls":["stun:x",1]}]`, "", true},
		{"a text", 200, `["stun:x"]`, "", true},
		{"too many", 200, "[" + strings.Repeat(`{"urls":"stun:x"},`, 70) + `{"urls":"stun:x"}]`, "", true},
		{"no JSON", 200, `<html>`, "", true},
		{"not there", 404, good, "", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := mainHTTP(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/base/dspeak/config" {
					t.Errorf("path %s", r.URL.Path)
				}
				w.WriteHeader(row.status)
				_, _ = w.Write([]byte(row.body))
			})
			got, err := a.ICEServers(t.Context())
			if string(got) != row.want || (err != nil) != row.bad {
				t.Errorf("got %s, %v", got, err)
			}
			if err != nil && !errors.Is(err, errs.ErrUnavailable) {
				t.Error(err)
			}
		})
	}
}

// answers is a round tripper without sockets, for tests with their own clock.
type answers func(n int64) (status int, body string)

func (a answers) client(t *testing.T, log *slog.Logger) *API {
	t.Helper()
	var n atomic.Int64
	return &API{base: &url.URL{Scheme: "http", Host: "x"}, timeout: time.Second, log: log, client: &http.Client{
		Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			status, body := a(n.Add(1))
			rec := httptest.NewRecorder()
			rec.WriteHeader(status)
			_, _ = rec.WriteString(body)
			return rec.Result(), nil
		}),
	}}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPollICEServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		a := answers(func(n int64) (int, string) {
			switch n {
			case 1:
				return 200, `[{"urls":"stun:a"}]`
			case 2, 3:
				return 500, ``
			case 4:
				return 200, `[]`
			}
			return 500, ``
		}).client(t, log.logger())
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute+30*time.Second)
		defer cancel()
		var got []string
		began := time.Now()
		a.PollICEServers(ctx, time.Minute, func(servers json.RawMessage) {
			got = append(got, string(servers)+" at "+time.Since(began).String())
		})
		if want := `[{"urls":"stun:a"}] at 0s,  at 3m0s`; strings.Join(got, ", ") != want {
			t.Errorf("updates %q, want %s", got, want)
		}
		if n := strings.Count(log.String(), "no ICE servers"); n != 2 {
			t.Errorf("%d warnings, want one for each time of failures:\n%s", n, log)
		}
	})
}
