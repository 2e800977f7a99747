// Package page owns the development page: its sources under src, the bundle
// made of them under dist, and the HTTP handler that serves the bundle.
//
// The bundle is committed, so that building the supervisor needs no Node.js;
// `make gen` makes it again. The package starts no goroutine and imports
// nothing of the project.
package page
