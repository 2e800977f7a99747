package signaling

import (
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/signaling/wire"
)

// upgradeRequired answers a request that is no WebSocket.
func (s *Server) upgradeRequired(w http.ResponseWriter, r *http.Request) {
	address := s.cfg.PublicURL
	if address == "" {
		address = (&url.URL{Scheme: s.trusted.scheme(r), Host: s.trusted.host(r), Path: r.URL.Path}).String()
	}
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUpgradeRequired)
	_ = json.NewEncoder(w).Encode(map[string]string{ // the client may be gone
		"error":        "Upgrade Required",
		"message":      "This is a WebSocket: connect with the query parameters auth and channelId.",
		"websocketUrl": address,
	})
}

// originAllowed reports whether a page of the request's origin may open a socket.
// Programs that are no browsers send no Origin.
func (s *Server) originAllowed(r *http.Request) bool {
	header := strings.Join(r.Header.Values("Origin"), " ")
	return header == "" || s.cfg.Origins.Allows(header)
}

// Bounds of the log lines about refused requests: strangers cause them.
const (
	refusalLogEvery = 5 * time.Second
	refusalLogBurst = 5
	// maxShownBytes bounds what a log line repeats of a request.
	maxShownBytes = 128
	// maxShownListBytes bounds what it repeats of a setting.
	maxShownListBytes = 512
)

// logOrigin says which origin was refused, and what would allow it.
func (s *Server) logOrigin(r *http.Request, addr netip.Addr) {
	if !s.logsRefusal() {
		return
	}
	s.cfg.Log.Warn("origin refused: it is not in the list",
		slog.String("origin", wire.Cut(strings.Join(r.Header.Values("Origin"), " "), maxShownBytes)),
		slog.String("list", wire.Cut(s.cfg.Origins.String(), maxShownListBytes)),
		slog.String("setting", "DSPEAK_ORIGINS"), slog.String(obs.KeyRemote, addr.String()), s.unloggedRefusals())
}

// logAddressLimit says whose sockets are too many. Behind a proxy that is not
// trusted, everybody has the proxy's address.
func (s *Server) logAddressLimit(r *http.Request, addr netip.Addr) {
	if !s.logsRefusal() {
		return
	}
	setting := "DSPEAK_CONNECTIONS_PER_ADDRESS"
	if forwarded := r.Header.Get(headerForwardedFor) + r.Header.Get(headerRealIP); forwarded != "" && !s.trusted.has(peer(r)) {
		setting = "DSPEAK_TRUSTED_PROXIES, if the address is that of a proxy"
	}
	s.cfg.Log.Warn("socket refused: too many of one address", slog.String(obs.KeyRemote, addr.String()),
		slog.Int("limit", s.limits.ConnectionsPerAddress), slog.String("setting", setting), s.unloggedRefusals())
}

// logsRefusal reports whether a refusal may be logged now, and counts it otherwise.
func (s *Server) logsRefusal() bool {
	if s.refusalLog.Allow() {
		return true
	}
	s.unlogged.Add(1)
	return false
}

// unloggedRefusals is how many refusals were not logged since it was called last.
func (s *Server) unloggedRefusals() slog.Attr { return slog.Uint64("unlogged", s.unlogged.Swap(0)) }

// Bounds of the query's values.
const (
	maxCredentialBytes = 4096
	maxChannelIDBytes  = 256
)

// query reads the credential and the channel.
func query(r *http.Request) (credential string, channelID ident.ChannelID, refusal *wire.Error) {
	credential, channel := parameter(r.URL.RawQuery, "auth"), parameter(r.URL.RawQuery, "channelId")
	switch {
	case credential == "" || channel == "":
		return "", "", wire.ErrMissingQuery()
	case !printable(credential, maxCredentialBytes) || !printable(channel, maxChannelIDBytes):
		return "", "", wire.ErrInvalidQuery()
	}
	return credential, ident.ChannelID(channel), nil
}

// parameter returns the first value of a query's parameter, empty without one.
// Only & separates parameters.
func parameter(rawQuery, name string) string {
	for pair := range strings.SplitSeq(rawQuery, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if unescape(key) == name {
			return unescape(value)
		}
	}
	return ""
}

// unescape decodes per cent sequences and nothing else. A plus sign stays one, and
// so does a per cent sign that begins no sequence: credentials come unescaped.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				out = append(out, b...)
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// printable reports whether s is text of at most limit bytes that can stand in a header.
func printable(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
