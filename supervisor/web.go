package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/signaling"
	"github.com/dspeak/sfu/supervisor/page"
)

// healthText is what the app's monitoring looks for.
const healthText = "dspeak v2 API is running"

const (
	headerTimeout = 10 * time.Second
	// bodyTimeout bounds a whole request and its answer. An upgrade ends it.
	bodyTimeout    = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
)

// newHTTPServer routes the public port.
func newHTTPServer(b *backend, sockets *signaling.Server, cfg config.Config, logger *slog.Logger) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("/socket", keepPlace(sockets))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		if fault := b.unhealthy(); fault != "" {
			http.Error(w, fault, http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(healthText)) // a client that left is no fault
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(newMetrics(b, sockets), promhttp.HandlerOpts{}))
	if !cfg.Production() {
		mux.Handle("/", page.Handler())
	}
	return &http.Server{
		Handler: mux, MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, WriteTimeout: bodyTimeout, IdleTimeout: idleTimeout,
		ErrorLog: quietLog(logger), ConnContext: withConn, ConnState: connState,
	}
}

// quietLog takes net/http's own lines without their text: it may hold a URL, and a
// URL may hold a credential.
func quietLog(logger *slog.Logger) *log.Logger {
	return log.New(lineFunc(func() { logger.Debug("http connection fault") }), "", 0)
}

// lineFunc is called for each line.
type lineFunc func()

func (f lineFunc) Write(b []byte) (int, error) {
	f()
	return len(b), nil
}

// serveHTTP serves until ctx ends, at most so many connections at once. Sockets are
// hijacked: their server closes them.
func serveHTTP(ctx context.Context, server *http.Server, port net.Listener, limit int, logger *slog.Logger) error {
	listener := newGate(port, limit, logger)
	defer listener.wait()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := server.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
