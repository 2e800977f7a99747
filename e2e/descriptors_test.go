package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// limited is the supervisor under a limit of descriptors.
func limited(t *testing.T, descriptors int) string {
	t.Helper()
	return script(t, 0o755, fmt.Sprintf("#!/bin/sh\nulimit -n %d\nexec %s \"$@\"\n", descriptors, bin.supervisor))
}

// TestDescriptorsRunOut fills a server under a low limit with sockets, with connections
// that say nothing on the public port, and with such on the media port: further sockets
// are answered with 503, operators are answered, workers are replaced, again and again,
// and an upgrade and the next supervisor find what they need. Afterwards all is as before.
func TestDescriptorsRunOut(t *testing.T) {
	for _, descriptors := range []int{64, 128, 256} {
		t.Run(strconv.Itoa(descriptors), func(t *testing.T) {
			t.Parallel() // it mostly waits
			s := startServer(t, settings{program: limited(t, descriptors)})
			eventually(t, answerTimeout, s.logs("fewer signaling sockets than set"))
			eventually(t, answerTimeout, s.logs("LimitNOFILE"))
			opened := s.fillWithSockets(t, 2*descriptors)
			t.Logf("%d sockets under %d descriptors", len(opened), descriptors)
			silent := s.connect(t, s.port, 2*descriptors)
			media := s.connect(t, s.media, 2*descriptors)
			s.worksWhenFull(t)
			if busy := cpuShare(t, s.cmd.Process.Pid); busy > 0.5 {
				t.Errorf("the supervisor uses %.0f %% of a CPU", 100*busy)
			}
			if out, err := s.dspeakctl(t, "upgrade"); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			eventually(t, startTimeout, func() error { return s.healthy(t.Context()) })
			opened = append(opened, s.fillWithSockets(t, 2*descriptors)...)
			silent = append(silent, s.connect(t, s.port, 2*descriptors)...)
			s.worksWhenFull(t)

			pid := s.firstWorker(t).GetPid()
			s.kill(t)
			s.again(t)
			if now := s.firstWorker(t).GetPid(); now != pid {
				t.Errorf("worker %d was not adopted, %d serves", pid, now)
			}
			for _, conn := range opened {
				_ = conn.Close()
			}
			for _, conn := range append(silent, media...) {
				_ = conn.Close()
			}
			eventually(t, startTimeout, func() error {
				conn, _, err := s.dialRaw(t, "?auth=ann&channelId=after")
				if err == nil {
					_ = conn.Close()
				}
				return err
			})
			s.enter(t, "ann", "after").request(t, "get-rtp-capabilities", nil)
		})
	}
}

// fillWithSockets opens signaling sockets until the server has no room, and so many more.
func (s *server) fillWithSockets(t *testing.T, more int) []*websocket.Conn {
	t.Helper()
	var opened []*websocket.Conn
	refused := 0
	for i := 0; refused < more; i++ {
		conn, response, err := s.dialRaw(t, "?auth=user-"+strconv.Itoa(i)+"&channelId=full")
		switch {
		case err == nil:
			opened = append(opened, conn)
			t.Cleanup(func() { _ = conn.Close() })
		case response == nil:
			t.Fatalf("socket %d has no answer: %v", i, err)
		case response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "":
			t.Fatalf("socket %d is answered with %d, %v", i, response.StatusCode, response.Header)
		default:
			refused++
		}
	}
	if len(opened) == 0 {
		t.Fatal("no socket at all")
	}
	return opened
}

// connect opens connections that say nothing.
func (s *server) connect(t *testing.T, port, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	for i := range conns {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conns[i] = conn
	}
	return conns
}

func (s *server) worksWhenFull(t *testing.T) {
	t.Helper()
	for range 3 {
		s.replacesKilled(t)
		if out, err := s.dspeakctl(t, "workers"); err != nil || !strings.Contains(out, "ready") {
			t.Errorf("dspeakctl: %v\n%s", err, out)
		}
		eventually(t, answerTimeout, func() error { return s.healthy(t.Context()) })
	}
}

// cpuShare is the share of a CPU that a process uses for a second.
func cpuShare(t *testing.T, pid int) float64 {
	t.Helper()
	before, since := cpuTime(t, pid), time.Now()
	<-time.After(time.Second)
	return float64(cpuTime(t, pid)-before) / float64(time.Since(since))
}

func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	var total time.Duration
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
		if err != nil {
			continue // the thread ended
		}
		var nanoseconds int64
		if _, err := fmt.Sscan(string(text), &nanoseconds); err != nil {
			t.Fatal(err)
		}
		total += time.Duration(nanoseconds)
	}
	return total
}

// TestTooFewDescriptors ends the start with the number that would do.
func TestTooFewDescriptors(t *testing.T) {
	env := map[string]string{
		"PORT": strconv.Itoa(freeMediaPort(t, 1)), "SFU_PORT": strconv.Itoa(freeMediaPort(t, 10)),
		"DSPEAK_RUN_DIR": filepath.Join(shortFolder(t), "run"),
	}
	refusesToStart(t, limited(t, 96), env, []string{"--workers", "8"}, 0, []string{"96 descriptors", "8 workers", "at least 148", "LimitNOFILE"})
}

// TestSlowRequests keep nobody out, whatever the limit of descriptors: connections that
// never finish their request give way to those that do.
func TestSlowRequests(t *testing.T) {
	s := startServer(t, settings{program: limited(t, 512)})
	for _, conn := range s.connect(t, s.port, 1000) {
		_, _ = io.WriteString(conn, "GET /socket?auth=a&channelId=b HTTP/1.1\r\nHost: ")
	}
	for i := range 20 {
		s.enter(t, "user-"+strconv.Itoa(i), "quick").request(t, "get-rtp-capabilities", nil)
	}
	if status, _, err := s.get(t.Context(), "/health"); err != nil || status != http.StatusOK {
		t.Errorf("health %d, %v", status, err)
	}
}
