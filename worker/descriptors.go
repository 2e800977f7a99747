package worker

import "golang.org/x/sys/unix"

const (
	// ownDescriptors are what the worker keeps of the descriptors that its process may
	// have: usualSockets, the ledger, the supervisor's calls, those of operators, and the
	// next supervisor, which brings a log and takes copies.
	ownDescriptors = 48
	// usualSockets are the media sockets where no addresses to bind are set. Each further
	// one takes socketDescriptors: the inherited one, netio's copy, and another socket
	// beside it.
	usualSockets      = 4
	socketDescriptors = 3
	// mostTCPConnections bounds the connections of clients.
	mostTCPConnections = 4096
)

// tcpConnections is how many TCP connections of clients a worker with so many media sockets
// may hold.
func tcpConnections(sockets int) int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return mostTCPConnections
	}
	return clipConnections(limit.Cur, sockets)
}

func clipConnections(descriptors uint64, sockets int) int {
	own := uint64(ownDescriptors + socketDescriptors*max(0, sockets-usualSockets))
	if descriptors <= own {
		return 1 // 0 is the default
	}
	return int(min(descriptors-own, mostTCPConnections))
}
