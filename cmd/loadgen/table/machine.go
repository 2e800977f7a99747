package table

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/cmd/loadgen/load"
)

// Machine is where a table was measured.
type Machine struct {
	Processor string `json:"processor"`
	CPUs      int    `json:"cpus"`
	Kernel    string `json:"kernel"`
	Go        string `json:"go"`
}

// String is one line for people.
func (m Machine) String() string {
	return fmt.Sprintf("%d CPUs of %s, Linux %s, %s", m.CPUs, m.Processor, m.Kernel, m.Go)
}

// readMachine leaves out what the system does not tell.
func readMachine() Machine {
	m := Machine{Processor: "an unknown kind", CPUs: runtime.NumCPU(), Kernel: "?", Go: runtime.Version()}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.Processor = strings.TrimSpace(value)
				break
			}
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	return m
}

// otherCPU is the last CPU that this process may use besides the worker's;
// load.NoCPU when there is none, or the worker is not pinned.
func otherCPU(allowed *unix.CPUSet, worker int) int {
	if worker < 0 {
		return load.NoCPU
	}
	other := load.NoCPU
	for cpu := range len(allowed) * 64 {
		if cpu != worker && allowed.IsSet(cpu) {
			other = cpu
		}
	}
	return other
}
