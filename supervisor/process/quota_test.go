package process

import (
	"reflect"
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

// TestPlan: a quota that leaves CPUs of the mask unused pins nobody, so that instances with
// quotas share no CPU of theirs by design.
func TestPlan(t *testing.T) {
	eight := []int{0, 1, 2, 3, 4, 5, 6, 7}
	for name, row := range map[string]struct {
		allowed []int
		quota   float64
		limited bool
		workers int
		pin     []int
	}{
		"no quota":                       {eight, 0, false, 8, eight},
		"a cpuset":                       {[]int{4, 6}, 0, false, 2, []int{4, 6}},
		"half a CPU":                     {eight, 0.5, true, 1, nil},
		"one and a half":                 {eight, 1.5, true, 1, nil},
		"two":                            {eight, 2, true, 2, nil},
		"nearly all":                     {eight, 7.9, true, 7, nil},
		"all":                            {eight, 8, true, 8, eight},
		"more than all":                  {eight, 64, true, 8, eight},
		"a cpuset below the quota":       {[]int{4, 6}, 2.5, true, 2, []int{4, 6}},
		"a quota below the cpuset":       {[]int{4, 6}, 1.5, true, 1, nil},
		"one CPU with a quota of it":     {[]int{3}, 1, true, 1, []int{3}},
		"one CPU with half a quota":      {[]int{3}, 0.5, true, 1, nil},
		"a system that does not tell":    {nil, 0, false, 1, nil},
		"the same, with a quota of four": {nil, 4, true, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := planCPUs(row.allowed, row.quota, row.limited)
			if p.Workers != row.workers || !reflect.DeepEqual(p.Pin, row.pin) {
				t.Errorf("%d workers on %v, want %d on %v", p.Workers, p.Pin, row.workers, row.pin)
			}
		})
	}
}
