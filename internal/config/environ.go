package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/v2"

	"github.com/dspeak/sfu/internal/errs"
)

const envPrefix = "DSPEAK_"

// byteOrderMark begins files of some Windows editors, and so the first variable of an
// .env file.
const byteOrderMark = "\ufeff"

// clean drops what surrounds a value without being part of it: blanks, and the carriage
// return of a file with Windows line ends.
func clean(text string) string {
	return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), byteOrderMark))
}

// loadEnviron takes the known variables over. An empty one counts as not set.
func loadEnviron(k *koanf.Koanf, environ []string) []error {
	names := map[string]string{}
	for _, o := range Options() {
		names[o.Env] = o.Name
	}
	links := newServiceLinks(environ)
	var faults []error
	provider := env.Provider(delimiter, env.Opt{
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			key := names[name]
			if key == "" && !links.include(name, value) {
				if err := strayName(name, names); err != nil {
					faults = append(faults, err)
				}
			}
			if value = clean(value); value == "" {
				return "", nil
			}
			return key, value
		},
	})
	if err := k.Load(provider, nil); err != nil {
		faults = append(faults, err)
	}
	return faults
}

// strayName returns the fault of a variable that is meant as a setting and is none: a
// misspelt one, or one whose name is a setting's with something before it, such as a byte
// order mark or the word export. It is nil for all others.
func strayName(name string, known map[string]string) error {
	words := strings.Fields(clean(name))
	if len(words) == 0 {
		return nil
	}
	last := words[len(words)-1]
	if _, ok := known[last]; ok {
		return fmt.Errorf("%q: the name must be %s alone; the file that sets it has stray characters there: %w", name, last, errs.ErrInvalid)
	}
	if strings.HasPrefix(words[0], envPrefix) || strings.HasPrefix(last, envPrefix) {
		return fmt.Errorf("%s: unknown variable: %w", strings.Trim(strconv.Quote(clean(name)), `"`), errs.ErrInvalid)
	}
	return nil
}
