package signaling

import "time"

// Limits bounds what clients may use. A zero field takes the default.
type Limits struct {
	// MessageBytes bounds one message; default 64 KiB.
	MessageBytes int64
	// Rate is how many messages a second a socket may send in the long run, Burst how
	// many at once; defaults 200 and 4000. A message counts once more for each 16 KiB.
	Rate  float64
	Burst int
	// PendingRequests and PendingBytes bound what waits for the Backend; defaults 4000
	// and 8 MiB. Before the socket has joined it is at most 256 requests and 256 KiB.
	PendingRequests int
	PendingBytes    int
	// SendQueue and SendQueueBytes bound what waits for the client; defaults 16384 messages and 16 MiB; pictures come beyond them.
	SendQueue      int
	SendQueueBytes int
	// WriteTimeout bounds the writing of one message; default 10 s.
	WriteTimeout time.Duration
	// HeartbeatInterval is the time between the server's pings; default 15 s.
	HeartbeatInterval time.Duration
	// HeartbeatTimeout is how long a client may be silent; default 60 s. Every message counts, and WebSocket control frames.
	HeartbeatTimeout time.Duration
	// ValidationTimeout bounds the Validator; default 5 s.
	ValidationTimeout time.Duration
	// CloseTimeout is how long a closing socket waits for the client's close frame; default 1 s.
	CloseTimeout time.Duration
	// Connections and ConnectionsPerAddress cap the open sockets; defaults 16384 and
	// 1024. An IPv6 client counts with its /64.
	Connections           int
	ConnectionsPerAddress int
	// AdmissionRate is how many sockets a second are accepted in the long run,
	// AdmissionBurst how many at once; defaults 400 and 100. Beyond that at most
	// AdmissionQueue requests wait, none longer than AdmissionWait; defaults 4096 and 15 s.
	AdmissionRate  float64
	AdmissionBurst int
	AdmissionQueue int
	AdmissionWait  time.Duration
}

func (l Limits) withDefaults() Limits {
	or(&l.MessageBytes, 64<<10)
	or(&l.Rate, 200)
	or(&l.Burst, 4000)
	or(&l.PendingRequests, 4000)
	or(&l.PendingBytes, 8<<20)
	or(&l.SendQueue, 16384)
	or(&l.SendQueueBytes, 16<<20)
	or(&l.WriteTimeout, 10*time.Second)
	or(&l.HeartbeatInterval, 15*time.Second)
	or(&l.HeartbeatTimeout, time.Minute)
	or(&l.ValidationTimeout, 5*time.Second)
	or(&l.CloseTimeout, time.Second)
	or(&l.Connections, 16384)
	or(&l.ConnectionsPerAddress, 1024)
	or(&l.AdmissionRate, 400)
	or(&l.AdmissionBurst, 100)
	or(&l.AdmissionQueue, 4096)
	or(&l.AdmissionWait, 15*time.Second)
	return l
}

// or sets a field that is not positive.
func or[T int | int64 | float64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}
