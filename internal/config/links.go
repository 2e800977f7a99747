package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/dspeak/sfu/internal/errs"
)

// serviceLinks tells variables that a container runtime sets from misspelt settings.
// Kubernetes sets some for each service of the namespace, and Docker for each linked
// container, under names that begin with the service's: with dspeak for a service like
// dspeak-sfu. Such a variable is known by the shapes of its name and its value.
//
//	DSPEAK_SFU_SERVICE_HOST=10.0.0.1              DSPEAK_SFU_PORT=tcp://10.0.0.1:8425
//	DSPEAK_SFU_SERVICE_PORT[_HTTP]=8425           DSPEAK_SFU_PORT_8425_TCP=tcp://10.0.0.1:8425
//	DSPEAK_SFU_PORT_8425_TCP_ADDR=10.0.0.1        DSPEAK_SFU_PORT_8425_TCP_PROTO=tcp
//	DSPEAK_SFU_PORT_8425_TCP_PORT=8425
//
// and by Docker alone DSPEAK_SFU_NAME=/web/sfu and DSPEAK_SFU_ENV_<variable>=<anything>.
type serviceLinks struct {
	// docker are the names of linked containers, the only ones with _ENV_ variables.
	docker map[string]bool
}

func newServiceLinks(environ []string) serviceLinks {
	l := serviceLinks{docker: map[string]bool{}}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if service, ok := strings.CutSuffix(name, "_NAME"); ok && isContainerPath(value) {
			l.docker[service] = true
		}
	}
	return l
}

// include reports whether the variable is a service link. No setting is one.
func (l serviceLinks) include(name, value string) bool {
	value = clean(value)
	container, _, ofContainer := strings.Cut(name, "_ENV_")
	switch {
	case strings.HasSuffix(name, "_SERVICE_HOST") && isLinkHost(value),
		strings.HasSuffix(name, "_SERVICE_PORT") && isLinkPort(value),
		strings.Contains(name, "_SERVICE_PORT_") && isLinkPort(value),
		strings.HasSuffix(name, "_PORT") && isLink(value),
		strings.HasSuffix(name, "_NAME") && isContainerPath(value):
		return true
	}
	return ofContainer && l.docker[container] || isLinkOfPort(name, value)
}

// isLinkOfPort reports whether the variable is that of one port of a service:
// <service>_PORT_<number>_<protocol> with an ending that says what the value is.
func isLinkOfPort(name, value string) bool {
	words := strings.Split(name, "_")
	for i := 1; i+2 < len(words); i++ {
		if words[i] != "PORT" || !isLinkPort(words[i+1]) || !isLinkProtocol(strings.ToLower(words[i+2])) {
			continue
		}
		switch strings.Join(words[i+3:], "_") {
		case "", "START", "END":
			return isLink(value)
		case "ADDR":
			return isLinkHost(value)
		case "PROTO":
			return isLinkProtocol(value)
		case "PORT", "PORT_START", "PORT_END":
			return isLinkPort(value)
		}
	}
	return false
}

// isLink reports whether the value is one like tcp://10.0.0.1:8425.
func isLink(value string) bool {
	protocol, address, ok := strings.Cut(value, "://")
	if !ok || !isLinkProtocol(protocol) {
		return false
	}
	host, port, err := net.SplitHostPort(address)
	return err == nil && isLinkHost(host) && isLinkPort(port)
}

func isLinkProtocol(v string) bool { return slices.Contains([]string{"tcp", "udp", "sctp"}, v) }

func isLinkHost(v string) bool {
	_, err := netip.ParseAddr(v)
	return err == nil || hostName(v)
}

func isLinkPort(v string) bool {
	n, err := strconv.Atoi(v)
	return err == nil && n > 0 && n <= maxPort
}

// isContainerPath reports whether the value is one like /web/sfu.
func isContainerPath(v string) bool {
	parts := strings.Split(clean(v), "/")
	return len(parts) == 3 && parts[0] == "" && parts[1] != "" && parts[2] != ""
}

// linkFault is the fault of a setting whose variable was set by a service link: that of
// a service named sfu is SFU_PORT.
func linkFault(o Option, value string) error {
	by := "a service"
	if service, ok := strings.CutSuffix(o.Env, "_PORT"); ok {
		by = fmt.Sprintf("a service named %q", strings.ToLower(strings.ReplaceAll(service, "_", "-")))
	}
	return fmt.Errorf("%s (%s): %q is a service link, which Kubernetes sets for %s; set enableServiceLinks: false in the pod's spec, or set %s itself there: %w",
		o.Env, o.Name, value, by, o.Env, errs.ErrInvalid)
}
