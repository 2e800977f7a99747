package process

import (
	"testing"
	"testing/fstest"
)

func TestCPUQuota(t *testing.T) {
	for name, row := range map[string]struct {
		files map[string]string
		want  float64
		ok    bool
	}{
		"no control groups": {nil, 0, false},
		"version 2 without a limit": {map[string]string{
			"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n",
		}, 0, false},
		"version 2": {map[string]string{
			"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
		}, 1.5, true},
		"a tighter group above": {map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "800000 100000\n",
		}, 1, true},
		"a container whose root is its group": {map[string]string{
			"proc/self/cgroup": "0::/host/path\n", "sys/fs/cgroup/cpu.max": "200000 100000\n",
		}, 2, true},
		"a group outside the namespace": {map[string]string{
			"proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/cpu.max": "300000 100000\n",
		}, 3, true},
		"version 1": {map[string]string{
			"proc/self/cgroup":                        "3:memory:/m\n2:cpu,cpuacct:/a\n0::/\n",
			"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us":    "50000\n",
			"sys/fs/cgroup/cpu/a/cpu.cfs_period_us":   "100000\n",
			"sys/fs/cgroup/memory/m/cpu.cfs_quota_us": "1\n",
		}, 0.5, true},
		"version 1 without a limit": {map[string]string{
			"proc/self/cgroup":                   "2:cpu:/\n",
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
		}, 0, false},
		"both versions": {map[string]string{
			"proc/self/cgroup":                   "1:cpu:/\n0::/\n",
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
			"sys/fs/cgroup/unified/cpu.max": "200000 100000\n",
		}, 2, true},
		"nonsense": {map[string]string{
			"proc/self/cgroup": "0::/\nx\n", "sys/fs/cgroup/cpu.max": "-5 0\n", "sys/fs/cgroup/unified/cpu.max": "1 2 3\n",
		}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for path, text := range row.files {
				root[path] = &fstest.MapFile{Data: []byte(text)}
			}
			if got, ok := cpuQuota(root); got != row.want || ok != row.ok {
				t.Fatalf("got %v, %v; want %v, %v", got, ok, row.want, row.ok)
			}
		})
	}
}
