package worker

import "golang.org/x/sys/unix"

const (
	// ownDescriptors are what the worker keeps of the descriptors that its process may
	// have: media sockets, the ledger, the supervisor's calls, those of operators, and the
	// next supervisor, which brings a log and takes copies.
	ownDescriptors = 48
	// mostTCPConnections bounds the connections of clients.
	mostTCPConnections = 4096
)

// tcpConnections is how many TCP connections of clients the worker may hold.
func tcpConnections() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return mostTCPConnections
	}
	return clipConnections(limit.Cur)
}

func clipConnections(descriptors uint64) int {
	if descriptors <= ownDescriptors {
		return 1 // 0 is the default
	}
	return int(min(descriptors-ownDescriptors, mostTCPConnections))
}
