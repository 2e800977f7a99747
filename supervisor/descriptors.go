package supervisor

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

// What the supervisor keeps for itself of the descriptors that the process may have, so
// that no number of clients keeps workers from being replaced and operators from asking.
const (
	// ownDescriptors are for the process itself: its log, the run directory, the admin
	// socket with maxOperators, the link to the main server, look-ups, and what an upgrade
	// opens.
	ownDescriptors = 36
	// slotDescriptors are for a worker beside its media sockets: the ledger, its control
	// connection, its handoff, its log and its process, and some to start the next.
	slotDescriptors = 8
	// slotSockets are the media sockets of a worker where no addresses to bind are set.
	slotSockets = 4
	// maxAPIConnections bounds the connections to the main server.
	maxAPIConnections = 256
	// fewestConnections is the least that the public port may have.
	fewestConnections = 4
	// maxWaiting bounds the public port's connections that are no signaling socket.
	maxWaiting = 1024
)

// descriptors says how many each kind of connection may have.
type descriptors struct {
	limit   int // of the process
	public  int // all connections of the public port
	sockets int // of those, the signaling sockets
	api     int // connections to the main server
}

// shareOut shares the descriptors of a process with so many slots, the quarantine's
// included, and media sockets in each. sockets is how many signaling sockets are wanted. A
// limit that is too low is an errs.ErrInvalid that says what to change.
func shareOut(limit, slots, media, sockets int, mainServer bool) (descriptors, error) {
	d := descriptors{limit: limit}
	rest := limit - ownDescriptors - (slotDescriptors+media)*slots
	if mainServer {
		d.api = min(max(rest/8, 1), maxAPIConnections)
		rest -= d.api
	}
	if rest < fewestConnections {
		need := limit + fewestConnections - rest
		return d, fmt.Errorf("%d descriptors are too few for %d workers, at least %d are needed; "+
			"raise the limit (ulimit -n, LimitNOFILE= of the unit) or run fewer workers: %w", limit, slots-1, need, errs.ErrInvalid)
	}
	waiting := min(max(rest/4, 2), maxWaiting)
	d.sockets = min(sockets, rest-waiting)
	d.public = d.sockets + waiting
	return d, nil
}

// shareDescriptors shares out what this process may have. The runtime has raised the soft
// limit to the hard one; workers start with the original.
func (s *supervisor) shareDescriptors() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit of descriptors: %w", err)
	}
	wanted := s.cfg.Signaling.Connections
	media := slotSockets
	for _, slot := range s.media.slots {
		media = max(media, len(slot.Files))
	}
	var err error
	s.share, err = shareOut(int(min(limit.Cur, 1<<30)), len(s.media.slots), media, wanted, s.cfg.Interop.APIBaseURL != "")
	if err != nil {
		return err
	}
	if s.share.sockets < wanted {
		s.log.Warn("fewer signaling sockets than set: too few descriptors; raise the limit (ulimit -n, LimitNOFILE= of the unit)",
			slog.Int("sockets", s.share.sockets), slog.Int("set", wanted), slog.Int("descriptors", s.share.limit))
	}
	return nil
}
