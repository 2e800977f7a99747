package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// TestProfilesAndRoles has a client choose the SRTP profile and the DTLS role,
// which browsers give no page a say in.
func TestProfilesAndRoles(t *testing.T) {
	s := startServer(t, settings{})
	admin := s.admin(t)
	for i, row := range []struct {
		name    string
		options pionOptions
		profile string
	}{
		{"AES-GCM, the worker as DTLS server", pionOptions{profile: dtls.SRTP_AEAD_AES_128_GCM}, "SRTP_AEAD_AES_128_GCM"},
		{"AES-CM with HMAC-SHA1, the worker as DTLS server", pionOptions{profile: dtls.SRTP_AES128_CM_HMAC_SHA1_80}, "SRTP_AES128_CM_HMAC_SHA1_80"},
		{"AES-GCM, the worker as DTLS client", pionOptions{profile: dtls.SRTP_AEAD_AES_128_GCM, server: true}, "SRTP_AEAD_AES_128_GCM"},
		{"AES-CM with HMAC-SHA1, the worker as DTLS client", pionOptions{profile: dtls.SRTP_AES128_CM_HMAC_SHA1_80, server: true}, "SRTP_AES128_CM_HMAC_SHA1_80"},
		{"all offered", pionOptions{}, "SRTP_AEAD_AES_128_GCM"},
	} {
		t.Run(row.name, func(t *testing.T) {
			channel := fmt.Sprintf("profile-%d", i)
			speaker := s.enterPion(t, "speaker", channel, row.options)
			listener := s.enterPion(t, "listener", channel, row.options)
			speaker.speak(t)
			listener.hear(t, speaker.producer)
			eventually(t, 20*time.Second, listener.hearing(100))
			got, err := admin.GetChannel(t.Context(), &adminv1.GetChannelRequest{ChannelId: channel})
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			for _, user := range got.GetUsers() {
				for _, transport := range user.GetTransports() {
					seen++
					if transport.GetSrtpProfile() != row.profile {
						t.Errorf("transport of %s uses %q, want %q", user.GetUserId(), transport.GetSrtpProfile(), row.profile)
					}
				}
			}
			if seen != 2 {
				t.Errorf("the admin service shows %d transports, want 2", seen)
			}
		})
	}
}
