package rtp

import "testing"

func TestNothingAllocates(t *testing.T) {
	voice, compound := unhex(t, chromiumVoice), chromiumCompound(t)
	var h Header
	var r Reception
	var g NackGenerator
	var cc TransportCC
	var seq uint16
	dst, missing := make([]byte, 0, 1500), make([]uint16, 0, nackWindow)
	reports := make([]ReceptionReport, 3)
	for name, call := range map[string]func(){
		"a packet": func() {
			seq += 2
			if Parse(voice, &h) != nil || h.Extension(10) == nil {
				t.Fatal("not parsed")
			}
			if _, err := Payload(voice, &h); err != nil {
				t.Fatal(err)
			}
			r.Update(seq, h.Timestamp, 0)
			g.Seen(seq, 0)
			missing = g.Due(missing[:0], 1<<40, 0)
			cc.Record(seq, 1000*int64(seq))
		},
		"garbage": func() {
			if Parse(voice[:13], &h) == nil {
				t.Fatal("parsed")
			}
		},
		"a header": func() { dst, _ = AppendHeader(dst[:0], voiceFields()) },
		"reports": func() {
			reports[0] = r.Report(1)
			dst = AppendSenderReport(dst[:0], SenderInfo{}, reports)
			dst = AppendReceiverReport(dst, 1, reports)
			dst = AppendSourceDescription(dst, 1, "name")
			dst = AppendNack(dst, 1, 2, missing)
			dst = AppendBye(dst, 1, 2, 3)
			dst = cc.AppendFeedback(dst, 1, 2)
		},
		"a compound": func() {
			for rest := compound; len(rest) > 0; {
				p, next, err := NextRTCP(rest)
				if err != nil {
					t.Fatal(err)
				}
				readAll(p)
				rest = next
			}
		},
		"malformed RTCP": func() {
			if _, _, err := NextRTCP(compound[:9]); err == nil {
				t.Fatal("read")
			}
		},
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
