package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/net/dns/dnsmessage"
)

// TestLateDNS announces a name whose resolver comes after the start: nobody is there before
// it, or somebody who never answers. The name has addresses of both families, and only IPv4
// is meant.
func TestLateDNS(t *testing.T) {
	for _, row := range []struct {
		name   string
		silent bool
	}{{"nobody", false}, {"silence", true}} {
		t.Run(row.name, func(t *testing.T) { testLateDNS(t, row.silent) })
	}
}

func testLateDNS(t *testing.T, silent bool) {
	t.Helper()
	const name = "voice.dspeak.test"
	space := newNamespace(t, "46")
	leave := func() {}
	if silent {
		conn, err := space.listenPacket(t.Context(), "127.0.0.1:53")
		if err != nil {
			t.Fatal(err)
		}
		leave = func() { _ = conn.Close() }
		defer leave()
	}
	var refused *socket
	var begun time.Time
	s := startServer(t, settings{
		space: space, host: spaceIPv4, program: resolvedBy(t, "127.0.0.1"), env: map[string]string{"SFU_IPV4": name, "SFU_IPV6": ""},
		late: func(s *server) {
			eventually(t, startTimeout, func() error {
				code, text, err := s.get(t.Context(), "/health")
				if err == nil && (code != http.StatusServiceUnavailable || !strings.Contains(text, name)) {
					err = fmt.Errorf("health is %d %q, it must name %s", code, text, name)
				}
				return err
			})
			refused = s.enter(t, "ann", "early")
			if answer := refused.request(t, "create-transport", nil); answer.text() != "Router not ready" {
				t.Errorf("answered %s", answer.raw)
			}
			leave()
			begun = time.Now()
			startResolver(t, space, map[string][]netip.Addr{name + ".": {netip.MustParseAddr(spaceIPv4), netip.MustParseAddr(spaceIPv6)}})
		},
	})
	if late := time.Since(begun); late > 8*time.Second { // a lost question would be given up after 10 s
		t.Errorf("healthy %v after the resolver came", late)
	}
	if code, reason := refused.closed(t); code != websocket.CloseTryAgainLater {
		t.Errorf("the refused client's socket ended with %d %s", code, reason)
	}
	for _, host := range []string{spaceIPv4, spaceIPv6} {
		s.host = host
		answer := s.enter(t, "ann", "late").request(t, "create-transport", nil)
		if got := candidates(t, answer); !slices.Equal(got, []string{spaceIPv4}) {
			t.Errorf("a client from %s is offered %v", host, got)
		}
	}
	s.host = spaceIPv4
	eventually(t, answerTimeout, s.logs("host name resolved"))
	log := s.log.String()
	if failures, answers := strings.Count(log, "host name not resolved"), strings.Count(log, "host name resolved"); failures != 1 || answers != 1 {
		t.Errorf("the log tells of %d failures and %d answers", failures, answers)
	}
}

// TestNamesInHosts has a name for each family, one of which is unknown at first.
func TestNamesInHosts(t *testing.T) {
	space := newNamespace(t, "46")
	hosts := filepath.Join(t.TempDir(), "hosts")
	write := func(text string) {
		if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(spaceIPv4 + " four.dspeak.test\n" + spaceIPv6 + " four.dspeak.test\n")
	s := startServer(t, settings{
		space: space, host: spaceIPv6, env: map[string]string{"SFU_IPV4": "four.dspeak.test", "SFU_IPV6": "six.dspeak.test"},
		program: shellScript(t, "mount --bind "+hosts+" /etc/hosts", "exec "+bin.supervisor+` "$@"`),
	})
	offered := func(user, want string) func() error {
		return func() error {
			c := s.enter(t, user, "c")
			defer c.close()
			if got := candidates(t, c.request(t, "create-transport", nil)); !slices.Equal(got, []string{want}) {
				return fmt.Errorf("a client over IPv6 is offered %v, want %s", got, want)
			}
			return nil
		}
	}
	if err := offered("ann", spaceIPv4)(); err != nil {
		t.Error(err)
	}
	write(spaceIPv4 + " four.dspeak.test\n" + spaceIPv6 + " six.dspeak.test\n")
	eventually(t, startTimeout, offered("ann", spaceIPv6)) // the interval of look-ups is a minute
}

// candidates are the addresses of a transport, each once.
func candidates(t *testing.T, answer message) []string {
	t.Helper()
	var data struct {
		IceCandidates []struct{ Address string }
	}
	if err := json.Unmarshal(answer.Data, &data); err != nil {
		t.Fatalf("%v in %s", err, answer.raw)
	}
	var list []string
	for _, c := range data.IceCandidates {
		if !slices.Contains(list, c.Address) {
			list = append(list, c.Address)
		}
	}
	return list
}

// resolvedBy is a supervisor that asks that resolver. It runs in a namespace: the file is
// another one there alone.
func resolvedBy(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver "+server+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return shellScript(t, "mount --bind "+path+" /etc/resolv.conf", "exec "+bin.supervisor+` "$@"`)
}

// startResolver answers DNS questions in the namespace until the test's end.
func startResolver(t *testing.T, space *namespace, zone map[string][]netip.Addr) {
	t.Helper()
	conn, err := space.listenPacket(t.Context(), "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	var reader sync.WaitGroup
	reader.Go(func() { resolve(conn, zone) })
	t.Cleanup(func() {
		_ = conn.Close()
		reader.Wait()
	})
}

func resolve(conn net.PacketConn, zone map[string][]netip.Addr) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		found, known := zone[strings.ToLower(q.Name.String())]
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		if !known {
			m.RCode = dnsmessage.RCodeNameError
		}
		header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
		for _, addr := range found {
			switch {
			case addr.Is4() && q.Type == dnsmessage.TypeA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
			case addr.Is6() && q.Type == dnsmessage.TypeAAAA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
			}
		}
		if answer, err := m.Pack(); err == nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

// listenPacket opens a UDP socket in the namespace.
func (n *namespace) listenPacket(ctx context.Context, address string) (conn net.PacketConn, err error) {
	var config net.ListenConfig
	n.inside(func() error {
		conn, err = config.ListenPacket(ctx, "udp", address)
		return err
	}, &err)
	return conn, err
}
