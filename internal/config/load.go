package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/dspeak/sfu/internal/errs"
)

// Names of the flags that are no settings.
const (
	// FlagFile names the YAML file.
	FlagFile = "config"
	// FlagCheck asks to check the settings and end.
	FlagCheck = "check"
)

const (
	delimiter    = "."
	envPrefix    = "DSPEAK_"
	maxFileBytes = 1 << 20
)

// AddFlags declares --config, --check and the flags of the options.
func AddFlags(fs *pflag.FlagSet) {
	fs.String(FlagFile, "", "YAML `file` with settings")
	fs.Bool(FlagCheck, false, "check the settings and end")
	for _, o := range Options() {
		if o.Flag != "" {
			fs.String(o.Flag, o.Default, o.Help)
		}
	}
}

// Load reads all sources and checks the result. flags has been declared by
// AddFlags and parsed; environ is in the form of os.Environ. The error joins
// all faults in one line and wraps errs.ErrInvalid.
func Load(flags *pflag.FlagSet, environ []string) (Config, error) {
	k := koanf.New(delimiter)
	var faults []error
	if path, err := flags.GetString(FlagFile); err == nil && path != "" {
		raw, err := readFile(path)
		if err != nil {
			return Config{}, fmt.Errorf("configuration: %w", err)
		}
		faults = append(faults, loadFile(k, raw)...)
	}
	faults = append(faults, loadEnviron(k, environ)...)
	if err := k.Load(flagProvider(flags, k), nil); err != nil {
		faults = append(faults, err)
	}
	c, more := build(k)
	faults = append(faults, more...)
	faults = append(faults, c.validate(k)...)
	if len(faults) > 0 {
		return Config{}, joined(faults)
	}
	return c, nil
}

// FaultsError is every fault of the settings.
type FaultsError struct {
	// Faults name the variable or key, what is wrong and what is wanted; one line each.
	Faults []string
}

// Error is all faults in one line.
func (e *FaultsError) Error() string { return "configuration: " + strings.Join(e.Faults, "; ") }

// Unwrap makes it an errs.ErrInvalid.
func (e *FaultsError) Unwrap() error { return errs.ErrInvalid }

func joined(faults []error) error {
	e := &FaultsError{}
	for _, f := range faults {
		line := strings.TrimSuffix(f.Error(), ": "+errs.ErrInvalid.Error())
		e.Faults = append(e.Faults, strings.ReplaceAll(line, "\n", " "))
	}
	return e
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", FlagFile, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileBytes {
		return nil, fmt.Errorf("--%s: %s is no file of at most %d bytes: %w", FlagFile, path, maxFileBytes, errs.ErrInvalid)
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", FlagFile, err)
	}
	return raw, nil
}

// loadFile takes the known keys of a YAML text over.
func loadFile(k *koanf.Koanf, raw []byte) []error {
	values, err := yaml.Parser().Unmarshal(raw)
	if err != nil {
		return []error{fmt.Errorf("--%s: %w", FlagFile, err)}
	}
	known := map[string]bool{}
	sections := map[string]bool{}
	for _, o := range Options() {
		known[o.Name] = true
		section, _, _ := strings.Cut(o.Name, delimiter)
		sections[section] = true
	}
	flat := map[string]any{}
	flatten(flat, "", values)
	var faults []error
	for _, key := range sortedKeys(flat) {
		if flat[key] == nil && sections[key] {
			continue // its settings are commented out
		}
		if !known[key] {
			faults = append(faults, fmt.Errorf("--%s: unknown key %q: %w", FlagFile, key, errs.ErrInvalid))
			continue
		}
		s, ok := written(flat[key])
		if !ok {
			faults = append(faults, fmt.Errorf("--%s: %s: want a plain value or a list of them: %w", FlagFile, key, errs.ErrInvalid))
			continue
		}
		if err := k.Set(key, s); err != nil {
			faults = append(faults, fmt.Errorf("--%s: %s: %w", FlagFile, key, err))
		}
	}
	return faults
}

// flatten joins the keys of nested maps with dots. An empty section is nothing.
func flatten(into map[string]any, prefix string, values map[string]any) {
	for key, v := range values {
		if m, ok := v.(map[string]any); ok {
			flatten(into, prefix+key+delimiter, m)
			continue
		}
		into[prefix+key] = v
	}
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// written is a YAML value as one would write it in the environment.
func written(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int:
		return strconv.Itoa(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case []any:
		list := make([]string, len(v))
		for i, item := range v {
			s, ok := item.(string)
			if !ok {
				return "", false
			}
			list[i] = s
		}
		return strings.Join(list, ","), true
	}
	return "", false
}

// loadEnviron takes the known variables over. An empty one counts as not set.
func loadEnviron(k *koanf.Koanf, environ []string) []error {
	names := map[string]string{}
	for _, o := range Options() {
		names[o.Env] = o.Name
	}
	var faults []error
	provider := env.Provider(delimiter, env.Opt{
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			key, known := names[name]
			if !known && strings.HasPrefix(name, envPrefix) {
				faults = append(faults, fmt.Errorf("%s: unknown variable: %w", name, errs.ErrInvalid))
			}
			if value == "" {
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

// flagProvider takes the flags over that were given.
func flagProvider(flags *pflag.FlagSet, k *koanf.Koanf) *posflag.Posflag {
	names := map[string]string{}
	for _, o := range Options() {
		names[o.Flag] = o.Name
	}
	return posflag.ProviderWithFlag(flags, delimiter, k, func(f *pflag.Flag) (string, any) {
		key := names[f.Name]
		if !f.Changed || key == "" {
			return "", nil
		}
		return key, f.Value.String()
	})
}

// build applies every value, the default where there is none.
func build(k *koanf.Koanf) (Config, []error) {
	var c Config
	var faults []error
	for _, o := range Options() {
		v := k.String(o.Name)
		if v == "" {
			v = o.Default
		}
		if v == "" {
			continue
		}
		if err := o.set(&c, v); err != nil {
			faults = append(faults, fmt.Errorf("%s (%s): %w", o.Env, o.Name, err))
		}
	}
	return c, append(faults, c.complete()...)
}

// complete fills in what follows from other settings.
func (c *Config) complete() []error {
	if c.Media.IPv4Port == 0 {
		c.Media.IPv4Port = c.Media.Port
	}
	if c.Media.IPv6Port == 0 {
		c.Media.IPv6Port = c.Media.Port + 1
	}
	if c.Interop.WSBaseURL == "" && c.Interop.APIBaseURL != "" {
		c.Interop.WSBaseURL = "ws" + strings.TrimPrefix(c.Interop.APIBaseURL, "http")
	}
	if c.RunDir == "" {
		exe, err := os.Executable()
		if err != nil {
			return []error{fmt.Errorf("DSPEAK_RUN_DIR (run_dir): not set, and the program's own place is unknown: %w", err)}
		}
		c.RunDir = filepath.Join(filepath.Dir(exe), "run")
	}
	dir, err := filepath.Abs(c.RunDir)
	if err != nil {
		return []error{fmt.Errorf("DSPEAK_RUN_DIR (run_dir): %w", err)}
	}
	c.RunDir = dir
	return nil
}

// maxSocketPath is the longest path of a Unix socket on Linux, without the zero at its end.
const maxSocketPath = 107

// validate finds the faults that lie between settings. Fields that failed before are zero and pass.
func (c Config) validate(given *koanf.Koanf) []error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf(format+": %w", append(args, errs.ErrInvalid)...))
	}
	mainServer := given.String("interop.api_base_url") != ""
	if c.Production() && !mainServer {
		fault("INTEROP_API_BASE_URL (interop.api_base_url): required in production")
	}
	if c.Interop.WSBaseURL != "" && !mainServer {
		fault("INTEROP_WS_API_BASE_URL (interop.ws_api_base_url): is of no use without INTEROP_API_BASE_URL")
	}
	s := c.Signaling
	if s.HeartbeatTimeout != 0 && s.HeartbeatTimeout < s.HeartbeatInterval {
		fault("SFU_HEARTBEAT_MISS_THRESHOLD_MS (signaling.heartbeat_miss_threshold_ms): %d is less than SFU_HEARTBEAT_INTERVAL_MS", s.HeartbeatTimeout.Milliseconds())
	}
	if longest := filepath.Join(c.RunDir, "worker-1023.sock"); len(longest) > maxSocketPath {
		fault("DSPEAK_RUN_DIR (run_dir): the path is too long for a Unix socket (%d bytes with its name, at most %d)", len(longest), maxSocketPath)
	}
	if c.Media.Port != 0 {
		if err := c.CheckPorts(max(c.Workers.Count, 1)); err != nil {
			faults = append(faults, err)
		}
	}
	return faults
}
