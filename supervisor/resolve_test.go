package supervisor

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspeak/sfu/internal/config"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling"
)

// resolver answers look-ups as its fields say. A silent one answers nothing.
type resolver struct {
	mu     sync.Mutex
	answer map[string][]netip.Addr // guarded by mu
	silent bool                    // guarded by mu
	asked  int                     // guarded by mu
}

func (r *resolver) lookup(ctx context.Context, _, name string) ([]netip.Addr, error) {
	r.mu.Lock()
	r.asked++
	silent, found := r.silent, r.answer[name]
	r.mu.Unlock()
	switch {
	case silent: // the question is lost: an answer never comes
		<-ctx.Done()
		return nil, ctx.Err()
	case found == nil:
		return nil, errors.New("no such host")
	}
	return found, nil
}

// set makes the resolver answer so from now on.
func (r *resolver) set(answer map[string][]netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent, r.answer = false, answer
}

func (r *resolver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Split(strings.TrimSpace(b.buf.String()), "\n")
}

// resolving runs addresses with a resolver until the test's end.
func resolving(t *testing.T, environment string, media config.Media, r *resolver) (*addresses, *syncBuffer) {
	t.Helper()
	media.IPv4Port, media.IPv6Port, media.ResolveInterval = 12825, 12826, time.Minute
	log := &syncBuffer{}
	a := newAddresses(config.Config{Environment: environment, Media: media}, map[workerv1.AddressFamily]bool{v4: true, v6: true},
		slog.New(slog.NewTextHandler(log, nil)))
	a.lookup = r.lookup
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { a.refresh(ctx); a.run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	return a, log
}

var (
	four = netip.MustParseAddr("192.0.2.7")
	six  = netip.MustParseAddr("2001:db8::7")
)

// TestNameIsKnownSoonAfterTheResolver has a resolver that comes some time after the start.
func TestNameIsKnownSoonAfterTheResolver(t *testing.T) {
	for name, row := range map[string]struct {
		silent bool
		away   time.Duration
		most   time.Duration // from the resolver's return to the answer
	}{
		"refused for 8 s":       {false, 8 * time.Second, 2500 * time.Millisecond},
		"silent for 8 s":        {true, 8 * time.Second, 4500 * time.Millisecond},
		"refused for an hour":   {false, time.Hour, 2500 * time.Millisecond},
		"silent for an hour":    {true, time.Hour, 4500 * time.Millisecond},
		"refused for a moment":  {false, 50 * time.Millisecond, 300 * time.Millisecond},
		"silent for two blinks": {true, 500 * time.Millisecond, 1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &resolver{silent: row.silent}
				a, log := resolving(t, config.Production, config.Media{IPv4: "voice.example.org"}, r)
				time.Sleep(row.away)
				if a.isKnown() {
					t.Fatal("known without a resolver")
				}
				if limit := 10 + int(row.away/time.Second)*2; r.count() > limit {
					t.Errorf("%d look-ups within %v", r.count(), row.away)
				}
				r.set(map[string][]netip.Addr{"voice.example.org": {four}})
				back := time.Now()
				<-a.known
				if late := time.Since(back); late > row.most {
					t.Errorf("known %v after the resolver is back", late)
				}
				synctest.Wait()
				if lines := log.lines(); len(lines) != 2 || !strings.Contains(lines[0], "not resolved") || !strings.Contains(lines[1], "host name resolved") {
					t.Errorf("log:\n%s", strings.Join(lines, "\n"))
				}
				asked := r.count()
				time.Sleep(10*time.Minute + time.Second)
				if n := r.count() - asked; n != 10 {
					t.Errorf("%d look-ups within ten minutes of an interval of one", n)
				}
			})
		})
	}
}

func TestNamesAreResolvedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resolver{answer: map[string][]netip.Addr{"six.example.org": {six}}}
		a, _ := resolving(t, config.Production, config.Media{IPv4: "four.example.org", IPv6: "six.example.org"}, r)
		<-a.known
		if family, list := a.forClient(signaling.FamilyIPv4, 0); family != v6 || len(list) != 1 {
			t.Errorf("announced %v while the IPv4 name is not resolved", list)
		}
		time.Sleep(3 * time.Second)
		r.set(map[string][]netip.Addr{"four.example.org": {four}})
		time.Sleep(3 * time.Second) // far less than the interval
		if family, list := a.forClient(signaling.FamilyIPv4, 0); family != v4 || len(list) != 1 {
			t.Errorf("announced %v", list)
		}
	})
}

func TestLastGoodAnswerStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resolver{answer: map[string][]netip.Addr{"voice.example.org": {four}}}
		a, log := resolving(t, config.Production, config.Media{IPv4: "voice.example.org"}, r)
		<-a.known
		is := func(want string) {
			t.Helper()
			if _, list := a.forClient(signaling.FamilyIPv4, 0); !slices.Equal(written(list), []string{want}) {
				t.Errorf("announced %v, want %s", list, want)
			}
		}
		is("192.0.2.7:12825")
		for _, bad := range []map[string][]netip.Addr{
			nil, {"voice.example.org": {}}, {"voice.example.org": {netip.MustParseAddr("127.0.1.1")}}, {"voice.example.org": {netip.IPv4Unspecified()}},
		} {
			r.set(bad)
			time.Sleep(5 * time.Minute)
			is("192.0.2.7:12825")
		}
		r.set(map[string][]netip.Addr{"voice.example.org": {netip.MustParseAddr("192.0.2.8")}})
		time.Sleep(time.Minute + time.Second)
		is("192.0.2.8:12825")
		if lines := log.lines(); len(lines) != 2 || !strings.Contains(lines[0], "last answer is used") || !strings.Contains(lines[1], "192.0.2.8") {
			t.Errorf("log:\n%s", strings.Join(lines, "\n"))
		}
	})
}

// TestAnswersThatNobodyReaches are refused as no answer.
func TestAnswersThatNobodyReaches(t *testing.T) {
	for _, row := range []struct {
		environment string
		addr        string
		known       bool
	}{
		{config.Production, "127.0.1.1", false}, // as Debian's /etc/hosts has the machine's own name
		{config.Production, "0.0.0.0", false},
		{config.Production, "224.0.0.1", false},
		{config.Production, "::1", false},
		{config.Production, "fe80::1", false},
		{config.Production, "10.0.0.1", true},
		{config.Development, "127.0.0.1", true},
		{config.Development, "0.0.0.0", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			addr := netip.MustParseAddr(row.addr)
			media := config.Media{IPv4: "voice.example.org"}
			if addr.Is6() {
				media = config.Media{IPv6: "voice.example.org"}
			}
			a, _ := resolving(t, row.environment, media, &resolver{answer: map[string][]netip.Addr{"voice.example.org": {addr}}})
			time.Sleep(time.Minute)
			if a.isKnown() != row.known {
				t.Errorf("%s in %s: known %v", row.addr, row.environment, a.isKnown())
			}
		})
	}
}

// TestHalfAnAnswer has a resolver that knows, for some time, only the family that is not
// served: the name is asked for again at once, not after the interval.
func TestHalfAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resolver{}
		a, _ := resolving(t, config.Production, config.Media{}, r)
		a.mu.Lock()
		a.served[v6] = false
		name := a.names[0].name
		a.mu.Unlock()
		r.set(map[string][]netip.Addr{name: {six}})
		time.Sleep(8 * time.Second)
		if a.isKnown() {
			t.Fatal("an address is announced where nobody listens")
		}
		r.set(map[string][]netip.Addr{name: {six, four}})
		time.Sleep(2500 * time.Millisecond)
		if !a.isKnown() {
			t.Error("not known soon after the resolver")
		}
	})
}
