// Package e2e owns the end-to-end tests: they build the real programs, start
// them on free ports with a run directory of their own, and drive them with
// clients that are not ours: browsers with mediasoup-client, and pion.
//
// Chromium and Firefox are driven by browser/driver.mjs, a child process that
// speaks JSON lines. e2e/setup installs what the tests need. With -short only
// the tests without a browser run. DSPEAK_E2E_RUNS repeats the tests of chance.
package e2e
