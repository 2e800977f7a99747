package handoff

import (
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"testing"

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

func TestFilesMustMatchTheirNames(t *testing.T) {
	parent, child := pair(t)
	if err := parent.Send(Message{Assign: &Assign{Files: []string{"a", "b"}}}, os.Stdin); err != nil {
		t.Fatal(err)
	}
	if _, _, err := child.Receive(context.Background()); !errors.Is(err, errs.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"hello":{"protocol":1,"pid":42}}`))
	f.Add([]byte(`{"assign":{"slot":0,"generation":1,"socket":"/run/worker-0.sock","files":["udp4"]}}`))
	f.Add([]byte(`{"ready":{},"failed":{"reason":"x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err == nil && m == (Message{}) {
			t.Fatal("an empty message decodes")
		}
		if err != nil && !errors.Is(err, errs.ErrInvalid) && !errors.Is(err, errs.ErrExhausted) {
			t.Fatalf("unexpected error %v", err)
		}
	})
}
