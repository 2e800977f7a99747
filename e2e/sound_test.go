package e2e

import (
	"testing"
	"time"
)

// TestToneDetection shows that the ear of the other tests works: a page finds
// its own tone in its own track, and no other.
func TestToneDetection(t *testing.T) {
	for _, kind := range []string{chromium, firefox} {
		t.Run(kind, func(t *testing.T) {
			browser := lab.shared(t, kind)
			page := browser.open(t, lab.pages(t, nil)+"/newest.html")
			eventually(t, 10*time.Second, func() error {
				var levels []float64
				page.mustEval(t, "return await e2e.ownTone(500, [500, 950])", &levels)
				if levels[0] < audibleDB || levels[1] > levels[0]-clearDB {
					return errMissing
				}
				return nil
			})
		})
	}
}
