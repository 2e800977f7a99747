package stun

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"strings"
	"testing"
)

// TestMACIsHMAC compares with crypto/hmac, keys of all lengths around the block size,
// one after another on the same MAC.
func TestMACIsHMAC(t *testing.T) {
	mac, head, tail := NewMAC(), []byte("head of a message"), bytes.Repeat([]byte{7}, 100)
	for length := range 200 {
		key := strings.Repeat("k", length)
		twin := hmac.New(sha1.New, []byte(key))
		twin.Write(head)
		twin.Write(tail)
		if got, want := mac.compute(key, head, tail), twin.Sum(nil); !bytes.Equal(got, want) {
			t.Fatalf("key of %d bytes: got %x, want %x", length, got, want)
		}
	}
}
