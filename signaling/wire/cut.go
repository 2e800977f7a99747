package wire

import (
	"strings"
	"unicode/utf8"
)

// Cut returns s as valid UTF-8 of at most n bytes, cut between characters.
func Cut(s string, n int) string {
	if len(s) > n {
		end := n
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return strings.ToValidUTF8(s, "")
}
