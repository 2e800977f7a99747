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
	for _, f := range files {
		var err error
		switch handoff.SocketKind(f.Name()) {
		case handoff.FileUDP4, handoff.FileUDP6:
			err = addUDP(&s, f, noSegmentation)
		case handoff.FileTCP4, handoff.FileTCP6:
			err = addTCP(&s, f)
		default:
			if f.Name() != handoff.FileLedger { // see openLedger
				err = fmt.Errorf("handoff file %q: %w", f.Name(), errs.ErrInvalid)
			}
		}
		if err != nil {
			return s, fmt.Errorf("media socket %s: %w", f.Name(), err)
		}
	}
	return s, nil
}

func addUDP(s *rtc.Sockets, f *os.File, noSegmentation bool) error {
	count := &netio.Counters{}
	u, err := netio.NewUDP(int(f.Fd()), netio.UDPOptions{NoOffload: noSegmentation, Counters: count})
	if err != nil {
		return err
	}
	s.UDP, s.Counters.UDP = append(s.UDP, u), append(s.Counters.UDP, count)
	return nil
}

func addTCP(s *rtc.Sockets, f *os.File) error {
	count := &netio.TCPCounters{}
	l, err := netio.NewTCPListener(int(f.Fd()), netio.TCPOptions{Counters: count})
	if err != nil {
		return err
	}
	s.TCP, s.Counters.TCP = append(s.TCP, l), append(s.Counters.TCP, count)
	return nil
}

// openAsides lets the media loop rest in silence, where the kernel helps: with all of
// them or none.
func openAsides(s *rtc.Sockets, log *slog.Logger) {
	for _, main := range s.UDP {
		count := &netio.Counters{}
		aside, err := netio.OpenAside(main, netio.UDPOptions{Counters: count})
		if err != nil {
			for _, opened := range s.Asides {
				err = errors.Join(err, opened.Close())
			}
			s.Asides = nil
			log.Info("media loop wakes for each check in silence, too", obs.Err(err))
			return
		}
		s.Asides, s.Counters.UDP = append(s.Asides, aside), append(s.Counters.UDP, count)
	}
}

func closeSockets(s rtc.Sockets) error {
	var faults []error
	for _, u := range append(s.Asides, s.UDP...) {
		faults = append(faults, u.Close())
	}
	for _, l := range s.TCP {
		faults = append(faults, l.Close())
	}
	return errors.Join(faults...)
}
