package handoff

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
)

func pair(t *testing.T) (*Conn, *Conn) {
	t.Helper()
	parent, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	child, err := FromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = parent.Close(); _ = child.Close() })
	return parent, child
}

func TestAssignCarriesFiles(t *testing.T) {
	parent, child := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	sent := Message{Assign: &Assign{Slot: 3, Generation: 7, Socket: "/run/x", Files: []string{FileUDP4}}}
	if err := parent.Send(sent, w); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	got, files, err := child.Receive(context.Background())
	if err != nil || !reflect.DeepEqual(got, sent) || len(files) != 1 || files[0].Name() != FileUDP4 {
		t.Fatalf("got %+v, %v, %v", got.Assign, files, err)
	}
	if _, err := files[0].WriteString("over"); err != nil {
		t.Fatal(err)
	}
	_ = files[0].Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "over" {
		t.Fatalf("read %q, %v", b, err)
	}
}

func TestReceiveEndsWithItsContextAndWithThePeer(t *testing.T) {
	parent, child := pair(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := child.Receive(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := parent.Send(Message{Ready: &Ready{}}); err != nil {
		t.Fatal(err)
	}
	if m, _, err := child.Receive(context.Background()); err != nil || m.Ready == nil {
		t.Fatalf("after a cancelled wait: %+v, %v", m, err)
	}
	_ = parent.Close()
	if _, _, err := child.Receive(context.Background()); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want EOF", err)
	}
}

func TestTheRuntimeDoesNotPollReceivedMediaSockets(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFile(fd, FileUDP4)
	defer func() { _ = f.Close() }()
	// What the runtime polls takes deadlines.
	if err := f.SetReadDeadline(time.Now()); !errors.Is(err, os.ErrNoDeadline) {
		t.Fatalf("got %v", err)
	}
}

func TestFilesMustMatchTheirNames(t *testing.T) {
	for name, row := range map[string]struct {
		message Message
		files   []*os.File
	}{
		"fewer than named":     {Message{Assign: &Assign{Files: []string{"a", "b"}}}, []*os.File{os.Stdin}},
		"more than named":      {Message{Assign: &Assign{Files: []string{"a"}}}, []*os.File{os.Stdin, os.Stderr}},
		"without an Assign":    {Message{Ready: &Ready{}}, []*os.File{os.Stdin}},
		"none of those named":  {Message{Assign: &Assign{Files: []string{"a"}}}, nil},
		"more than is allowed": {Message{Assign: &Assign{Files: make([]string, maxFiles+1)}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			parent, child := pair(t)
			before := descriptors(t)
			if err := parent.Send(row.message, row.files...); err != nil {
				t.Fatal(err)
			}
			_, files, err := child.Receive(context.Background())
			if !errors.Is(err, errs.ErrInvalid) && !errors.Is(err, errs.ErrExhausted) || files != nil {
				t.Fatalf("got %v, %v", files, err)
			}
			if after := descriptors(t); after != before {
				t.Fatalf("%d descriptors before, %d after", before, after)
			}
		})
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("the system does not tell its descriptors")
	}
	return len(entries)
}

func TestMessagesAreBounded(t *testing.T) {
	parent, child := pair(t)
	long := Message{Failed: &Failed{Reason: strings.Repeat("x", maxMessage)}}
	if err := parent.Send(long); err != nil {
		t.Fatal(err)
	}
	if _, _, err := child.Receive(context.Background()); !errors.Is(err, errs.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	if err := parent.Send(Message{Hello: &Hello{Protocol: Protocol, PID: 7}}); err != nil {
		t.Fatal(err)
	}
	if m, _, err := child.Receive(context.Background()); err != nil || m.Hello.PID != 7 {
		t.Fatalf("after an oversized message: %+v, %v", m, err)
	}
}

func TestSendingToNobodyFails(t *testing.T) {
	parent, child := pair(t)
	_ = child.Close()
	if err := parent.Send(Message{Ready: &Ready{}}); err == nil {
		t.Fatal("sent")
	}
	_ = parent.Close()
	if _, _, err := parent.Receive(context.Background()); err == nil {
		t.Fatal("received on a closed socket")
	}
}

func TestForeignFileIsRefused(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromFile(f); err == nil {
		t.Fatal("a file is no socket")
	}
}

func encoded(t *testing.T, m Message) []byte {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"hello":{"protocol":1,"pid":42}}`))
	f.Add([]byte(`{"assign":{"slot":0,"generation":1,"socket":"/run/worker-0.sock","files":["udp4"]}}`))
	f.Add([]byte(`{"ready":{},"failed":{"reason":"x"}}`))
	f.Add([]byte(`{"hello":null}`))
	f.Add([]byte(`{"assign":{"slot":-1,"files":["a","b","c","d","e","f","g","h","i","j","k","l","m","n","o","p","q"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err == nil && m == (Message{}) {
			t.Fatal("an empty message decodes")
		}
		if err == nil {
			once := encoded(t, m)
			if m, err = Decode(once); err != nil || !bytes.Equal(once, encoded(t, m)) {
				t.Fatalf("%s does not come back: %v", once, err)
			}
		}
		if err != nil && !errors.Is(err, errs.ErrInvalid) && !errors.Is(err, errs.ErrExhausted) {
			t.Fatalf("unexpected error %v", err)
		}
	})
}
