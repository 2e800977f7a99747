package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// script writes an executable file.
func script(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(shortFolder(t), "program")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// copied is a program under another name.
func copied(t *testing.T, program string) string {
	t.Helper()
	bytes, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	return script(t, 0o755, string(bytes))
}

// sleeper is a program that says nothing and does not end, or not before the test.
func sleeper(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	source := filepath.Join(folder, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nimport \"time\"\n\nfunc main() { time.Sleep(time.Minute) }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(shortFolder(t), "sleeper")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, source).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// foreignProgram is one of another machine: its header alone.
func foreignProgram(t *testing.T) string {
	t.Helper()
	header := make([]byte, 64)
	copy(header, "\x7fELF\x02\x01\x01")
	header[16], header[18] = 2, 243 // executable, RISC-V
	return script(t, 0o755, string(header))
}

// TestProgramThatIsNoWorker ends the start, and the check of the settings, with one line
// that says so.
func TestProgramThatIsNoWorker(t *testing.T) {
	for _, row := range []struct {
		name  string
		path  func(*testing.T) string
		holds string
	}{
		{"nothing", func(t *testing.T) string { t.Helper(); return filepath.Join(t.TempDir(), "none") }, "no such file"},
		{"a directory", func(t *testing.T) string { t.Helper(); return t.TempDir() }, "is a directory"},
		{"a device", func(*testing.T) string { return os.DevNull }, "is no plain file"},
		{"a file that is not executable", func(t *testing.T) string { t.Helper(); return script(t, 0o644, "text") }, "not executable"},
		{"a text", func(t *testing.T) string { t.Helper(); return script(t, 0o755, "a text\n") }, "exec format error"},
		{"an empty file", func(t *testing.T) string { t.Helper(); return script(t, 0o755, "") }, "exec format error"},
		{"another machine's program", foreignProgram, "exec format error"},
		{"a script", func(t *testing.T) string { t.Helper(); return script(t, 0o755, "#!/bin/sh\nexit 0\n") }, "it ended with"},
		{"a program that ends at once", func(*testing.T) string { return "/bin/true" }, "it ended with exit status 0"},
		{"a program that fails at once", func(*testing.T) string { return "/bin/false" }, "it ended with exit status 1"},
		{"a program that explains itself", func(*testing.T) string { return "/bin/sleep" }, "missing operand"},
		{"a program that reads", func(*testing.T) string { return "/bin/cat" }, "it ended with exit status 0"},
		{"a program that says nothing", sleeper, "deadline exceeded"},
		{"the supervisor", func(*testing.T) string { return bin.supervisor }, "is the supervisor"},
		{"a copy of the supervisor", func(t *testing.T) string { t.Helper(); return copied(t, bin.supervisor) }, "is the supervisor"},
		{"the operators' command", func(*testing.T) string { return bin.dspeakctl }, "it ended with"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			path := row.path(t)
			env := map[string]string{
				"PORT": strconv.Itoa(freeMediaPort(t, 1)), "SFU_PORT": strconv.Itoa(freeMediaPort(t, 2)),
				"DSPEAK_RUN_DIR": filepath.Join(shortFolder(t), "run"), "DSPEAK_WORKER_BINARY": path,
			}
			holds := []string{"DSPEAK_WORKER_BINARY", path, row.holds}
			refusesToStart(t, bin.supervisor, env, []string{"--workers", "1"}, 0, holds)
			refusesToStart(t, bin.supervisor, env, []string{"--check"}, 0, holds)
		})
	}
}

// TestCheckAcceptsTheWorker and leaves no process.
func TestCheckAcceptsTheWorker(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin.supervisor, "--check")
	cmd.Dir = shortFolder(t)
	runDir := filepath.Join(cmd.Dir, "run")
	cmd.Env = environment(map[string]string{"DSPEAK_RUN_DIR": runDir})
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	nothingLeft(t, runDir)
}

// TestNobodyIsToldBeforeAWorkerServes starts workers that show what they are and never
// serve: neither the log nor the service manager hears that the supervisor serves,
// /health is 503, and the start ends.
func TestNobodyIsToldBeforeAWorkerServes(t *testing.T) {
	m := newManager(t)
	s := &server{host: "127.0.0.1", port: freePort(t), media: freeMediaPort(t, 3), log: new(output), exited: make(chan struct{})}
	s.runDir = filepath.Join(shortFolder(t), "run")
	if err := os.Mkdir(s.runDir, 0o700); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"PORT": strconv.Itoa(s.port), "SFU_PORT": strconv.Itoa(s.media), "DSPEAK_RUN_DIR": s.runDir,
		"SFU_IPV4": "127.0.0.1", "SFU_IPV6": "::1",
	}
	s.cmd = m.command(context.WithoutCancel(t.Context()), bin.supervisor, "--workers", "1")
	s.cmd.Env = append(environment(env), s.cmd.Env...)
	s.cmd.Dir = filepath.Dir(s.runDir)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// What is in the way of the worker's socket appears once the directory was looked at.
	for taken := false; !taken; {
		select {
		case <-t.Context().Done():
			t.Fatal("no operators' socket")
		case <-time.After(time.Millisecond):
		}
		_, err := os.Stat(filepath.Join(s.runDir, "lock"))
		taken = err == nil
	}
	if err := os.Mkdir(filepath.Join(s.runDir, "worker-0.sock"), 0o700); err != nil {
		t.Fatal(err)
	}
	go func() { s.exitErr = s.cmd.Wait(); close(s.exited) }()
	unhealthy := false
	eventually(t, time.Minute, func() error {
		if status, _, err := s.get(t.Context(), "/health"); err == nil {
			if status == 200 {
				t.Error("/health is 200")
			}
			unhealthy = unhealthy || status == 503
		}
		select {
		case <-s.exited:
			return nil
		default:
			return errors.New("it runs")
		}
	})
	text := s.log.String()
	if !unhealthy || s.exitErr == nil {
		t.Errorf("unhealthy: %v, ended with %v", unhealthy, s.exitErr)
	}
	if strings.Contains(text, "supervisor serves") || m.count("READY=1") > 0 {
		t.Error("the supervisor says that it serves")
	}
	if !strings.Contains(text, "no worker serves: worker 0") || !strings.Contains(text, "worker-0.sock is no socket") {
		t.Errorf("says\n%s", s.log.tail(20))
	}
	_ = os.Remove(filepath.Join(s.runDir, "worker-0.sock"))
	nothingLeft(t, s.runDir)
}
