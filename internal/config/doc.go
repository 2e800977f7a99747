// Package config owns the supervisor's settings: what they are called, where
// they come from, and whether they make sense together.
//
// Later sources win: defaults, the YAML file of --config, the environment, the
// flags. Load reports every fault it finds at once. The result is a value
// without pointers that nobody changes afterwards.
//
// The package starts no goroutine and imports nothing of the project but
// packages errs and origin. It is the only one, with cmd, that knows of flags and of the
// environment.
package config
