package page_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dspeak/sfu/supervisor/page"
)

func serve(t *testing.T, method, path string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	request.Header = header
	recorder := httptest.NewRecorder()
	page.Handler().ServeHTTP(recorder, request)
	return recorder
}

func TestHandler(t *testing.T) {
	for _, row := range []struct {
		name, method, path string
		status             int
		contentType, holds string
	}{
		{"the page", http.MethodGet, "/", 200, "text/html; charset=utf-8", `src="app.js"`},
		{"the page by name", http.MethodGet, "/index.html", 200, "text/html; charset=utf-8", "<title>"},
		{"the script", http.MethodGet, "/app.js", 200, "text/javascript; charset=utf-8", "currentlyInChannel"},
		{"the style", http.MethodGet, "/style.css", 200, "text/css; charset=utf-8", ":root"},
		{"the icon", http.MethodGet, "/favicon.svg", 200, "image/svg+xml", "<svg"},
		{"the licences", http.MethodGet, "/licenses.txt", 200, "text/plain; charset=utf-8", "mediasoup-client"},
		{"only the header", http.MethodHead, "/", 200, "text/html; charset=utf-8", ""},
		{"an unknown file", http.MethodGet, "/nothing.js", 404, "text/plain; charset=utf-8", ""},
		{"no folders", http.MethodGet, "/dist/app.js", 404, "text/plain; charset=utf-8", ""},
		{"another method", http.MethodPost, "/", 405, "text/plain; charset=utf-8", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := serve(t, row.method, row.path, http.Header{})
			if got.Code != row.status || got.Header().Get("Content-Type") != row.contentType {
				t.Errorf("got %d %q, want %d %q", got.Code, got.Header().Get("Content-Type"), row.status, row.contentType)
			}
			if !strings.Contains(got.Body.String(), row.holds) {
				t.Errorf("body lacks %q", row.holds)
			}
			if row.method == http.MethodHead && got.Body.Len() != 0 {
				t.Errorf("HEAD has a body of %d bytes", got.Body.Len())
			}
		})
	}
}

func TestHandlerCaching(t *testing.T) {
	first := serve(t, http.MethodGet, "/app.js", http.Header{})
	if cache := first.Header().Get("Cache-Control"); cache != "no-cache" {
		t.Errorf("Cache-Control is %q", cache)
	}
	again := serve(t, http.MethodGet, "/app.js", http.Header{"If-None-Match": {first.Header().Get("ETag")}})
	if again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("unchanged file: %d with %d bytes, want 304 and none", again.Code, again.Body.Len())
	}
}

func TestHandlerPolicy(t *testing.T) {
	header := serve(t, http.MethodGet, "/", http.Header{}).Header()
	policy := header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q has an exception", policy)
	}
	if header.Get("X-Content-Type-Options") != "nosniff" {
		t.Error("content sniffing is allowed")
	}
}

func TestPageHasNoInlineCode(t *testing.T) {
	// The policy would refuse it, and the browser would only say so in its console.
	body := serve(t, http.MethodGet, "/", http.Header{}).Body.String()
	for _, bad := range []string{"<style", "style=", "onclick", "<script>"} {
		if strings.Contains(body, bad) {
			t.Errorf("page holds %q", bad)
		}
	}
}
