package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"

	"github.com/dspeak/sfu/internal/errs"
)

const maxFileBytes = 1 << 20

// readFile returns the text of the settings file. It reads regular files alone and
// never blocks: a FIFO would wait for its writer.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fileFault("%w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, fileFault("%w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fileFault("%s is not a regular file", path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fileFault("%w", err)
	}
	if len(raw) > maxFileBytes {
		return nil, fileFault("%s is longer than %d bytes", path, maxFileBytes)
	}
	return raw, nil
}

// fileFault is a fault of the file as a whole or of one of its lines.
func fileFault(format string, args ...any) error {
	return fmt.Errorf("--"+FlagFile+": "+format+": %w", append(args, errs.ErrInvalid)...)
}

// loadFile takes the known keys of a YAML text over. The text holds one document.
func loadFile(k *koanf.Koanf, raw []byte) []error {
	documents := yaml.NewDecoder(bytes.NewReader(raw))
	var document, next yaml.Node
	switch err := documents.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil // nothing but comments
	case err != nil:
		return []error{fileFault("%w", err)}
	}
	switch err := documents.Decode(&next); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return []error{fileFault("%w", err)}
	default:
		return []error{fileFault("line %d: a second document begins; write all settings into one", next.Line)}
	}
	f := settingsFile{koanf: k, options: map[string]Option{}, sections: map[string]bool{}, lines: map[string]int{}}
	for _, o := range Options() {
		f.options[o.Name] = o
		if section, _, in := strings.Cut(o.Name, delimiter); in {
			f.sections[section] = true
		}
	}
	f.take("", document.Content[0])
	return f.faults
}

// settingsFile is a file whose settings are being taken over.
type settingsFile struct {
	koanf    *koanf.Koanf
	options  map[string]Option
	sections map[string]bool
	lines    map[string]int // of the settings found
	faults   []error
}

func (f *settingsFile) fault(line int, format string, args ...any) {
	f.faults = append(f.faults, fileFault("line %d: "+format, append([]any{line}, args...)...))
}

// take takes over what a mapping holds: the whole file with the prefix "", or a section.
func (f *settingsFile) take(prefix string, mapping *yaml.Node) {
	if isNull(mapping) {
		return // its settings are commented out
	}
	entries := map[string]yaml.Node{}
	if err := mapping.Decode(&entries); err != nil {
		switch {
		case resolved(mapping).Kind == yaml.MappingNode: // a key twice, for example, which the error names with its lines
			f.faults = append(f.faults, fileFault("%w", err))
		case prefix == "":
			f.fault(mapping.Line, "want sections and settings such as `http: {port: 8425}`")
		default:
			section := strings.TrimSuffix(prefix, delimiter)
			f.fault(mapping.Line, "%q is a section, not a setting; want keys such as %q in it", section, f.example(prefix))
		}
		return
	}
	for _, key := range sortedKeys(entries) {
		name, value := prefix+key, entries[key]
		switch o, known := f.options[name]; {
		case known:
			f.set(o, &value)
		case prefix == "" && f.sections[key]:
			f.take(key+delimiter, &value)
		default:
			f.fault(value.Line, "unknown key %q", name)
		}
	}
}

// example is the first setting of a section.
func (f *settingsFile) example(prefix string) string {
	for _, name := range sortedKeys(f.options) {
		if strings.HasPrefix(name, prefix) {
			return name
		}
	}
	return ""
}

// set takes one setting over, unless it is null.
func (f *settingsFile) set(o Option, value *yaml.Node) {
	text, ok := written(value, o.List)
	if !ok {
		want := "a plain value"
		if o.List {
			want = "a plain value or a list of plain values"
		}
		f.fault(value.Line, "%s: want %s", o.Name, want)
		return
	}
	if line, twice := f.lines[o.Name]; twice {
		f.fault(value.Line, "%s is set twice, first in line %d", o.Name, line)
		return
	}
	f.lines[o.Name] = value.Line
	if text == "" {
		return
	}
	if err := f.koanf.Set(o.Name, text); err != nil {
		f.faults = append(f.faults, fileFault("%s: %w", o.Name, err))
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// written returns a value as it stands in the file, so that 012825 is the port that it
// looks like and no octal number. A list becomes its items with commas between them.
func written(value *yaml.Node, list bool) (string, bool) {
	value = resolved(value)
	switch {
	case isNull(value):
		return "", true
	case value.Kind == yaml.ScalarNode && value.ShortTag() != "!!binary":
		return clean(value.Value), true
	case value.Kind != yaml.SequenceNode || !list:
		return "", false
	}
	items := make([]string, len(value.Content))
	for i, item := range value.Content {
		text, ok := written(item, false)
		if !ok || text == "" {
			return "", false
		}
		items[i] = text
	}
	return strings.Join(items, ","), true
}

// resolved follows an alias to its anchor, which is no alias itself.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	n = resolved(n)
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}
