package handoff

import (
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
)

// Version names the program that calls it: the revision it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, changed := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+changes"
		}
	}
	return revision + changed
}

// Protocol is the version of this contract. Both sides must speak the same.
const Protocol = 2

// FD is the inherited descriptor of the worker's end.
const FD = 3

// EnvWorker is set in a worker's environment. Another program of the project that finds it
// was taken for a worker and must not start.
const EnvWorker = "DSPEAK_WORKER"

// Exit codes of a worker.
const (
	ExitOK = 0
	// ExitFailure: the worker may be started again.
	ExitFailure = 1
	// ExitBadSettings: it would fail again the same way and is never restarted. The
	// code is EX_CONFIG of sysexits; 2 would not do, a panic of a Go program ends with it.
	ExitBadSettings = 78
)

// Names of the files that travel with messages. A slot with several sockets of a kind
// numbers the further ones: see SocketName.
const (
	FileUDP4 = "udp4"
	FileUDP6 = "udp6"
	FileTCP4 = "tcp4"
	FileTCP6 = "tcp6"
	// FileLedger is the memory that holds the slot's state (package ledgerfile).
	FileLedger = "ledger"
	// FileLog is the pipe that an adopted worker writes its log to from now on.
	FileLog = "log"
)

// maxMessage bounds a message, maxFiles the files with it.
const (
	maxMessage = 64 << 10
	maxFiles   = 32
)

// SocketName is the name of the socket of a kind with a number: the kind itself for 0,
// "udp4.1" for 1.
func SocketName(kind string, number int) string {
	if number == 0 {
		return kind
	}
	return fmt.Sprintf("%s.%d", kind, number)
}

// SocketKind is the kind of a media socket, one of FileUDP4, FileUDP6, FileTCP4 and
// FileTCP6; empty: the name is no media socket's.
func SocketKind(name string) string {
	kind, number, numbered := strings.Cut(name, ".")
	switch kind {
	case FileUDP4, FileUDP6, FileTCP4, FileTCP6:
	default:
		return ""
	}
	if n, err := strconv.Atoi(number); numbered && (err != nil || SocketName(kind, n) != name || n < 1) {
		return ""
	}
	return kind
}

// Message is one message of the contract: exactly one field is set.
type Message struct {
	Hello  *Hello  `json:"hello,omitempty"`
	Assign *Assign `json:"assign,omitempty"`
	Ready  *Ready  `json:"ready,omitempty"`
	Failed *Failed `json:"failed,omitempty"`
	Retire *Retire `json:"retire,omitempty"`
	// Adopt and Adopted travel on a connection that a new supervisor opens.
	Adopt   *Adopt   `json:"adopt,omitempty"`
	Adopted *Adopted `json:"adopted,omitempty"`
}

// Hello is the worker's first message.
type Hello struct {
	Protocol int `json:"protocol"`
	PID      int `json:"pid"`
	// Layout is the version of the ledger's records that the program reads and writes.
	Layout uint64 `json:"layout"`
	// Version is the program's, for operators.
	Version string `json:"version"`
}

// Assign gives a worker its slot. Durations are nanoseconds.
type Assign struct {
	Slot       ident.Slot       `json:"slot"`
	Generation ident.Generation `json:"generation"`
	Epoch      ident.Epoch      `json:"epoch"`
	// Takeover: the ledger holds the state to go on with. Otherwise it is empty.
	Takeover bool `json:"takeover,omitempty"`
	// SkipRouters are the marks (package ledgerfile) of routers that a takeover leaves out.
	SkipRouters []uint64 `json:"skipRouters,omitempty"`
	// Socket is the path on which the worker serves gRPC.
	Socket string `json:"socket"`
	// AdoptSocket is the path on which it waits for a new supervisor; empty: it does not.
	AdoptSocket string `json:"adoptSocket,omitempty"`
	// LogLevel is a slog level: "DEBUG", "INFO", "WARN" or "ERROR".
	LogLevel string `json:"logLevel"`
	// Announced are literal addresses with ports for transports that name none.
	Announced []string `json:"announced,omitempty"`
	// OrphanTimeout is how long a worker without users stays when its supervisor is gone.
	OrphanTimeout int64 `json:"orphanTimeout"`
	// MaxWait bounds how long packets wait for others to the same destination; 0 is the default.
	MaxWait int64 `json:"maxWait,omitempty"`
	// NoSegmentation: packets leave one by one, whatever the kernel can do.
	NoSegmentation bool `json:"noSegmentation,omitempty"`
	// Padding is that of rtc.Config; empty is the default.
	Padding string `json:"padding,omitempty"`
	// Files names the descriptors that travel with the message, in order.
	Files []string `json:"files,omitempty"`
}

// Ready says that the worker serves.
type Ready struct {
	// Resumed is what a takeover brought; nil without one.
	Resumed *Resumed `json:"resumed,omitempty"`
}

// Resumed counts what a takeover brought.
type Resumed struct {
	Routers    int `json:"routers"`
	Transports int `json:"transports"`
	Producers  int `json:"producers"`
	Consumers  int `json:"consumers"`
	// Dropped are transports that could not be gone on with.
	Dropped int `json:"dropped"`
	// Duration is how long reading the ledger took, in nanoseconds.
	Duration int64 `json:"duration"`
}

// Retire asks a worker to end at once without a word to its clients: a successor
// goes on with its ledger.
type Retire struct{}

// Adopt makes the sender the worker's supervisor, if it has none. FileLog travels
// with it.
type Adopt struct {
	Protocol int      `json:"protocol"`
	Files    []string `json:"files,omitempty"`
}

// Adopted answers Adopt with all that a supervisor holds of a worker: its media
// sockets and its ledger travel with it. Or it says why not.
type Adopted struct {
	Refused    string           `json:"refused,omitempty"`
	Protocol   int              `json:"protocol"`
	PID        int              `json:"pid"`
	Slot       ident.Slot       `json:"slot"`
	Generation ident.Generation `json:"generation"`
	Epoch      ident.Epoch      `json:"epoch"`
	// Alone is since when the worker has had no supervisor, in nanoseconds since 1970.
	Alone   int64    `json:"alone"`
	Layout  uint64   `json:"layout"`
	Version string   `json:"version"`
	Files   []string `json:"files,omitempty"`
}

// Failed says why a worker cannot serve; it exits after it.
type Failed struct {
	Reason string `json:"reason"`
}

// Decode reads a message. Malformed input is an error that wraps errs.ErrInvalid.
func Decode(b []byte) (Message, error) {
	var m Message
	if len(b) > maxMessage {
		return m, fmt.Errorf("handoff message of %d bytes: %w", len(b), errs.ErrInvalid)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("decode handoff message: %w: %w", err, errs.ErrInvalid)
	}
	set := 0
	for _, is := range []bool{
		m.Hello != nil, m.Assign != nil, m.Ready != nil, m.Failed != nil, m.Retire != nil, m.Adopt != nil, m.Adopted != nil,
	} {
		if is {
			set++
		}
	}
	if set != 1 {
		return Message{}, fmt.Errorf("handoff message with %d bodies: %w", set, errs.ErrInvalid)
	}
	if n := len(m.files()); n > maxFiles {
		return Message{}, fmt.Errorf("handoff of %d files: %w", n, errs.ErrExhausted)
	}
	return m, nil
}

// files are the names of the files that travel with the message.
func (m *Message) files() []string {
	switch {
	case m.Assign != nil:
		return m.Assign.Files
	case m.Adopt != nil:
		return m.Adopt.Files
	case m.Adopted != nil:
		return m.Adopted.Files
	default:
		return nil
	}
}
