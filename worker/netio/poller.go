package netio

// Ready says what Wait found.
type Ready struct {
	// Woken: Wake was called.
	Woken bool
	// TCP: TCPEvents has something.
	TCP bool
	// Readable and Writable have bit i set for the UDP socket with index i.
	Readable, Writable uint32
}

// TCPEvent is readiness of one listener or one connection; the other is nil.
type TCPEvent struct {
	Listener *TCPListener
	Conn     *TCPConn
	// Readable also stands for hang-up and error: reading tells.
	Readable, Writable bool
}

// maxUDP is how many UDP sockets a Poller takes: the bits of Ready's fields.
const maxUDP = 32

// maxTCPEvents bounds what one TCPEvents returns.
const maxTCPEvents = 64
