package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestReadmeListsEverySetting compares the README's table with the settings.
func TestReadmeListsEverySetting(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "| `") && strings.Count(line, "|") >= 6 {
			rows++
		}
	}
	code := func(s, prefix string) string {
		if s == "" {
			return ""
		}
		return "`" + prefix + s + "`"
	}
	for _, o := range Options() {
		want := fmt.Sprintf("| `%s` | `%s` | %s | %s | %s |\n", o.Name, o.Env, code(o.Flag, "--"), code(o.Default, ""), o.Help)
		if !strings.Contains(string(b), want) {
			t.Errorf("README lacks the row %s", want)
		}
	}
	if n := len(Options()); rows != n {
		t.Errorf("README has %d rows of settings, there are %d", rows, n)
	}
}
