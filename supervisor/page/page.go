package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"time"
)

// bundle is filled by the compiler and only read.
//
//go:embed dist
var bundle embed.FS

// contentSecurityPolicy lets the page load its own files and talk to its own
// host, and nothing else. The signaling socket is of the same origin.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'"

type file struct {
	body        []byte
	contentType string
	etag        string
}

// Handler serves the page at "/" and its files beside it; every other path is
// 404, every method but GET and HEAD is 405. Browsers ask again each time and
// get 304 while nothing changed. Any goroutine may use it.
func Handler() http.Handler {
	files := load()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Type", f.contentType)
		h.Set("ETag", f.etag)
		h.Set("Cache-Control", "no-cache")
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(self)")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
	})
}

// load reads the bundle into a map by URL path. The names are fixed at build
// time, so a file that cannot be read is not there.
func load() map[string]file {
	files := make(map[string]file)
	entries, err := bundle.ReadDir("dist")
	if err != nil {
		return files
	}
	for _, entry := range entries {
		body, err := bundle.ReadFile(path.Join("dist", entry.Name()))
		if err != nil {
			continue
		}
		sum := sha256.Sum256(body)
		f := file{body: body, contentType: contentType(entry.Name()), etag: `"` + hex.EncodeToString(sum[:16]) + `"`}
		files["/"+entry.Name()] = f
		if entry.Name() == "index.html" {
			files["/"] = f
		}
	}
	return files
}

// contentType does not ask the machine's own table, which may say anything of
// a script, for the types that a browser is strict about.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".html":
		return "text/html; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".txt":
		return "text/plain; charset=utf-8"
	}
	if known := mime.TypeByExtension(path.Ext(name)); known != "" {
		return known
	}
	return "application/octet-stream"
}
