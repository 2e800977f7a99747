package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/worker/netio"
	"github.com/dspeak/sfu/worker/rtc"
)

// openSockets wraps the inherited descriptors, which netio duplicates.
func openSockets(files []*os.File, noSegmentation bool) (rtc.Sockets, error) {
	s := rtc.Sockets{Counters: &rtc.SocketCounters{}}
	count := s.Counters
	for _, f := range files {
		var err error
		switch f.Name() {
		case handoff.FileUDP4:
			s.UDP4, err = netio.NewUDP(int(f.Fd()), netio.UDPOptions{NoOffload: noSegmentation, Counters: &count.UDP4})
		case handoff.FileUDP6:
			s.UDP6, err = netio.NewUDP(int(f.Fd()), netio.UDPOptions{NoOffload: noSegmentation, Counters: &count.UDP6})
		case handoff.FileTCP4:
			s.TCP4, err = netio.NewTCPListener(int(f.Fd()), netio.TCPOptions{Counters: &count.TCP4})
		case handoff.FileTCP6:
			s.TCP6, err = netio.NewTCPListener(int(f.Fd()), netio.TCPOptions{Counters: &count.TCP6})
		case handoff.FileLedger: // see openLedger
		default:
			err = fmt.Errorf("handoff file %q: %w", f.Name(), errs.ErrInvalid)
		}
		if err != nil {
			return s, fmt.Errorf("media socket %s: %w", f.Name(), err)
		}
	}
	return s, nil
}

// openAsides lets the media loop rest in silence, where the kernel helps.
func openAsides(s *rtc.Sockets, log *slog.Logger) {
	for _, pair := range []struct {
		main  netio.UDP
		aside *netio.UDP
		count *netio.Counters
	}{{s.UDP4, &s.Aside4, &s.Counters.Aside4}, {s.UDP6, &s.Aside6, &s.Counters.Aside6}} {
		if pair.main == nil {
			continue
		}
		aside, err := netio.OpenAside(pair.main, netio.UDPOptions{Counters: pair.count})
		if err != nil {
			log.Info("media loop wakes for each check in silence, too", obs.Err(err))
			continue
		}
		*pair.aside = aside
	}
}

func closeSockets(s rtc.Sockets) error {
	var faults []error
	for _, u := range []netio.UDP{s.UDP4, s.UDP6, s.Aside4, s.Aside6} {
		if u != nil {
			faults = append(faults, u.Close())
		}
	}
	for _, l := range []*netio.TCPListener{s.TCP4, s.TCP6} {
		if l != nil {
			faults = append(faults, l.Close())
		}
	}
	return errors.Join(faults...)
}
