package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// grpcurl is the command in the version that the Makefile names.
func grpcurl(t *testing.T) string {
	t.Helper()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^GRPCURL_VERSION := (\S+)$`).FindSubmatch(makefile)
	if found == nil {
		t.Fatal("the Makefile names no version of grpcurl")
	}
	tools, err := filepath.Abs("../bin/tools")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "install", "github.com/fullstorydev/grpcurl/cmd/grpcurl@"+string(found[1]))
	cmd.Env = append(os.Environ(), "GOBIN="+tools, "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("install grpcurl: %v\n%s", err, out)
	}
	return filepath.Join(tools, "grpcurl")
}

// TestGRPCurl looks into the processes as an operator does, by reflection only.
func TestGRPCurl(t *testing.T) {
	s := startServer(t, settings{})
	tool := grpcurl(t)
	c := s.enter(t, "ann", "grpc")
	transport := c.createTransport(t, "send")
	producer := c.produce(t, transport.ID, "0", 1)
	for _, row := range []struct {
		name, socket string
		args         []string
		holds        []string
	}{
		{"services of a worker", "worker-0.sock", []string{"list"}, []string{"dspeak.worker.v1.WorkerService", "grpc.health.v1.Health", "grpc.channelz.v1.Channelz", "grpc.reflection.v1.ServerReflection"}},
		{"services of the supervisor", "supervisor.sock", []string{"list"}, []string{"dspeak.admin.v1.AdminService", "grpc.health.v1.Health", "grpc.channelz.v1.Channelz"}},
		{"a description", "worker-0.sock", []string{"describe", "dspeak.worker.v1.WorkerService"}, []string{"rpc CreateRouter", "rpc WatchEvents"}},
		{"health of a worker", "worker-0.sock", []string{"grpc.health.v1.Health/Check"}, []string{"SERVING"}},
		{"the object tree", "worker-0.sock", []string{"dspeak.worker.v1.WorkerService/Dump"}, []string{transport.ID, producer}},
		{"resource usage", "worker-0.sock", []string{"dspeak.worker.v1.WorkerService/GetResourceUsage"}, []string{"{"}},
		{"connections by channelz", "worker-0.sock", []string{"grpc.channelz.v1.Channelz/GetServers"}, []string{"server"}},
		{"health of the supervisor", "supervisor.sock", []string{"grpc.health.v1.Health/Check"}, []string{"SERVING"}},
		{"the workers", "supervisor.sock", []string{"dspeak.admin.v1.AdminService/ListWorkers"}, []string{`"state": "ready"`, `"pid"`}},
		{"a channel", "supervisor.sock", []string{"-d", `{"channel_id":"grpc"}`, "dspeak.admin.v1.AdminService/GetChannel"}, []string{"ann", producer}},
	} {
		t.Run(row.name, func(t *testing.T) {
			args := []string{"-plaintext", "-unix"}
			if row.args[0] == "-d" {
				args, row.args = append(args, row.args[:2]...), row.args[2:]
			}
			args = append(args, filepath.Join(s.runDir, row.socket))
			out, err := exec.CommandContext(t.Context(), tool, append(args, row.args...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range row.holds {
				if !strings.Contains(string(out), want) {
					t.Errorf("lacks %q:\n%s", want, out)
				}
			}
		})
	}
}

func (s *server) dspeakctl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin.dspeakctl, args...)
	cmd.Env = environment(map[string]string{"DSPEAK_RUN_DIR": s.runDir})
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestDspeakctl runs the operators' command beside a call.
func TestDspeakctl(t *testing.T) {
	s := startServer(t, settings{workers: 2})
	speaker := s.enterPion(t, "ann", "desk", pionOptions{})
	listener := s.enterPion(t, "bob", "desk", pionOptions{})
	speaker.speak(t)
	listener.hear(t, speaker.producer)
	eventually(t, 20*time.Second, listener.hearing(150))

	for _, row := range []struct {
		name  string
		args  []string
		holds []string
	}{
		{"workers", []string{"workers"}, []string{"ready"}},
		{"channels", []string{"channels"}, []string{"desk"}},
		{"a channel", []string{"channel", "desk"}, []string{"ann", "bob", "ms"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			out, err := s.dspeakctl(t, row.args...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range row.holds {
				if !strings.Contains(out, want) {
					t.Errorf("lacks %q:\n%s", want, out)
				}
			}
			out, err = s.dspeakctl(t, append(row.args, "--json")...)
			if err != nil || !json.Valid([]byte(out)) {
				t.Errorf("with --json: %v\n%s", err, out)
			}
		})
	}
	t.Run("kick", func(t *testing.T) {
		if out, err := s.dspeakctl(t, "kick", "desk", "bob"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		listener.expect(t, "force_disconnect")
		eventually(t, answerTimeout, speaker.inRoom(1, "ann"))
	})
	t.Run("an unknown channel", func(t *testing.T) {
		if out, err := s.dspeakctl(t, "channel", "nowhere"); err == nil || !strings.Contains(out, "nowhere") {
			t.Errorf("got %v\n%s", err, out)
		}
	})
	t.Run("no supervisor", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), bin.dspeakctl, "workers")
		cmd.Env = environment(map[string]string{"DSPEAK_RUN_DIR": t.TempDir()})
		if out, err := cmd.CombinedOutput(); err == nil || len(strings.Split(strings.TrimSpace(string(out)), "\n")) != 1 {
			t.Errorf("got %v\n%s", err, out)
		}
	})
}
