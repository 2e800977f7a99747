// Package service owns what a supervisor gets from the one that started it, and what
// it tells that one: files inherited from systemd or from the supervisor that it
// replaces, and systemd's notify protocol (sd_notify(3)) with its watchdog and its
// file descriptor store. Without systemd all telling does nothing.
//
// It starts no goroutine of its own and imports nothing of the project but internal
// packages.
package service
