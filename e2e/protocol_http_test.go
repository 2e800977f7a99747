package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestHTTP covers the rows of the HTTP port.
func TestHTTP(t *testing.T) {
	s := startServer(t, settings{})
	t.Run("a socket needs an upgrade", func(t *testing.T) {
		status, body, err := s.get(t.Context(), "/socket?auth=a&channelId=b")
		if err != nil || status != http.StatusUpgradeRequired {
			t.Fatalf("got %d %v", status, err)
		}
		var got struct{ Error, Message, WebsocketURL string }
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if got.Error != "Upgrade Required" || got.Message == "" || !strings.HasPrefix(got.WebsocketURL, s.socketURL()) {
			t.Errorf("got %+v, want the URL %s", got, s.socketURL())
		}
	})
	t.Run("health", func(t *testing.T) {
		status, body, err := s.get(t.Context(), "/health")
		if err != nil || status != http.StatusOK || body != "dspeak v2 API is running" {
			t.Errorf("got %d %q %v", status, body, err)
		}
	})
	t.Run("metrics", func(t *testing.T) {
		status, body, err := s.get(t.Context(), "/metrics")
		if err != nil || status != http.StatusOK || !strings.Contains(body, "# TYPE ") {
			t.Errorf("got %d %.200q %v", status, body, err)
		}
	})
	t.Run("the page", func(t *testing.T) {
		status, body, err := s.get(t.Context(), "/")
		if err != nil || status != http.StatusOK || !strings.Contains(body, "app.js") {
			t.Errorf("got %d %.200q %v", status, body, err)
		}
	})
}

// TestValidation covers what the main server may say of a new socket.
func TestValidation(t *testing.T) {
	main := newMainServer(t)
	main.answer("forbidden", http.StatusForbidden, `{"error":"no"}`)
	main.answer("text", http.StatusOK, `{"isMedia":false}`)
	main.answer("silent", http.StatusOK, `{}`)
	main.answer("strange", http.StatusOK, `<html>`)
	main.answer("named", http.StatusOK, `{"isMedia":true,"userId":"the-real-name"}`)
	main.iceServers(`[{"urls":"stun:stun.example.org:3478"}]`)
	s := startServer(t, settings{main: main})
	for _, row := range []struct {
		name, query, want string
		status            any
	}{
		{"no credential", "?channelId=x", "Missing auth or channelId in query params", nil},
		{"an empty channel", "?auth=x&channelId=", "Missing auth or channelId in query params", nil},
		{"the main server refuses", "?auth=x&channelId=forbidden", "Channel validation failed", 403.0},
		{"no media channel", "?auth=x&channelId=text", "Channel is not a media channel", nil},
		{"the kind is not said", "?auth=x&channelId=silent", "Channel is not a media channel", nil},
		{"no JSON", "?auth=x&channelId=strange", "Backend validation error", nil},
	} {
		t.Run(row.name, func(t *testing.T) { refused(t, s, row.query, row.want, row.status) })
	}
	t.Run("the answer names the user", func(t *testing.T) {
		const secret = "credential-of-nobody"
		c := s.dial(t, secret, "named")
		var got struct{ ChannelID, UserID, Message string }
		c.expect(t, "connected").decode(t, &got)
		if got.UserID != "the-real-name" || got.ChannelID != "named" || got.Message != "dspeak socket connection successful" {
			t.Errorf("connected says %+v", got)
		}
		if strings.Contains(s.log.String(), secret) {
			t.Error("the credential is in the log")
		}
		main.mu.Lock()
		defer main.mu.Unlock()
		if asked := main.asked[len(main.asked)-1]; asked != secret {
			t.Errorf("the main server was asked with %q", asked)
		}
	})
	t.Run("ICE servers of the main server", func(t *testing.T) {
		c := s.enter(t, "u", "ice")
		if params := c.createTransport(t, "send"); len(params.IceServers) != 1 || params.IceServers[0]["urls"] != "stun:stun.example.org:3478" {
			t.Errorf("ICE servers %v", params.IceServers)
		}
	})
}

// refused dials and wants one error message and the end of the socket.
func refused(t *testing.T, s *server, query, want string, status any) {
	t.Helper()
	conn, _, err := s.dialRaw(t, query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		t.Fatal(err)
	}
	var got message
	if err := conn.ReadJSON(&got); err != nil {
		t.Fatal(err)
	}
	if got.Type != "error" || got.text() != want || got.Status != status {
		t.Errorf("got %s %s with status %v, want %q with %v", got.Type, got.Data, got.Status, want, status)
	}
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.ClosePolicyViolation, websocket.CloseInternalServerErr, websocket.CloseNormalClosure, websocket.CloseTryAgainLater) {
		t.Errorf("the socket goes on with %v", err)
	}
}

func TestValidationWithoutAnswer(t *testing.T) {
	s := startServer(t, settings{env: map[string]string{"INTEROP_API_BASE_URL": fmt.Sprintf("http://127.0.0.1:%d", freePort(t))}})
	refused(t, s, "?auth=x&channelId=y", "Backend validation error", nil)
}
