package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/dspeak/sfu/internal/errs"
)

// Names of the flags that are no settings.
const (
	// FlagFile names the YAML file.
	FlagFile = "config"
	// FlagCheck asks to check the settings on this machine and end.
	FlagCheck = "check"
)

const delimiter = "."

// AddFlags declares --config, --check and the flags of the options.
func AddFlags(fs *pflag.FlagSet) {
	fs.String(FlagFile, "", "YAML `file` with settings")
	fs.Bool(FlagCheck, false, "check the settings on this machine and end")
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
		return key, clean(f.Value.String())
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
		if isLink(v) {
			faults = append(faults, linkFault(o, v))
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
	if longest := filepath.Join(c.RunDir, "worker-1023.handoff"); len(longest) > maxSocketPath {
		fault("DSPEAK_RUN_DIR (run_dir): the path is too long for a Unix socket (%d bytes with its name, at most %d)", len(longest), maxSocketPath)
	}
	if c.Media.Port != 0 {
		faults = append(faults, c.portFaults(max(c.Workers.Count, 1))...)
	}
	return faults
}
