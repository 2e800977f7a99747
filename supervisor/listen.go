package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/errs"
)

// httpName is the public port's listener among inherited files.
const httpName = "http"

// listenHTTP opens the public port, so that an occupied one is found at once, or takes
// the inherited listener.
func listenHTTP(ctx context.Context, cfg config.HTTP, inherited *os.File) (net.Listener, error) {
	if inherited != nil {
		listener, err := net.FileListener(inherited)
		if err = errors.Join(err, inherited.Close()); err != nil {
			return nil, fmt.Errorf("inherited HTTP port: %w: %w", err, errs.ErrUnavailable)
		}
		return listener, nil
	}
	network, address := "tcp", net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port))
	if addr, err := netip.ParseAddr(cfg.Host); err == nil && addr.Is4() {
		network = "tcp4" // the runtime takes 0.0.0.0 for all addresses of both families
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, network, address)
	if err != nil {
		return nil, httpFault(cfg, err)
	}
	return listener, nil
}

// httpFault says which setting of the public port is at fault, and what to set. Only one
// that no time mends is an errs.ErrInvalid: an address or a port may become free.
func httpFault(cfg config.HTTP, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("DSPEAK_HTTP_HOST: this machine does not have the address %s (%w); set it to one of the machine's addresses, or leave it empty for all: %w",
			cfg.Host, err, errs.ErrUnavailable)
	case errors.Is(err, syscall.EINVAL) && strings.Contains(cfg.Host, "%"):
		return fmt.Errorf("DSPEAK_HTTP_HOST: the address %s names an interface that this machine lacks (%w): %w", cfg.Host, err, errs.ErrUnavailable)
	case errors.Is(err, syscall.EAFNOSUPPORT):
		return fmt.Errorf("DSPEAK_HTTP_HOST: this machine lacks the address family of %s (%w); set it to an address of the other family: %w", cfg.Host, err, errs.ErrUnavailable)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("PORT: %d is reserved (%w); set PORT to a port above 1023, or give the program CAP_NET_BIND_SERVICE: %w", cfg.Port, err, errs.ErrDenied)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("PORT: %d is occupied (%w); stop the program that uses it, or set PORT to a free port: %w", cfg.Port, err, errs.ErrUnavailable)
	}
	return fmt.Errorf("HTTP port %d at DSPEAK_HTTP_HOST %q: %w: %w", cfg.Port, cfg.Host, err, errs.ErrUnavailable)
}
