package process

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// CPUPlan is how workers share the CPUs.
type CPUPlan struct {
	// Workers is the number of workers that have a CPU each, at least 1.
	Workers int
	// Pin are the CPUs to pin workers to, slot after slot. It is empty when the quota is
	// less than the CPUs of the mask: which of them are free is not known then. The first
	// ones would be those of every other instance with a quota on the machine, while the
	// scheduler sees them all.
	Pin []int
	// Allowed are the CPUs of the affinity mask.
	Allowed []int
	// Quota is how many CPUs the control groups allow in all; 0: no limit.
	Quota float64
}

// planCPUs has a worker for each CPU that can be used fully. The runtime's own limit is not
// asked: it rounds the quota up, to two at least.
func planCPUs(allowed []int, quota float64, limited bool) CPUPlan {
	p := CPUPlan{Workers: max(len(allowed), 1), Pin: allowed, Allowed: allowed}
	if limited {
		p.Quota = quota
	}
	if limited && quota < float64(len(allowed)) {
		p.Workers, p.Pin = max(int(quota), 1), nil
	}
	return p
}

// cpuQuota returns how many CPUs the control groups of this process allow it in
// all: the tightest of its own group and those above, of both versions of the
// hierarchy. root is the file system's root. ok is false when nothing limits it.
func cpuQuota(root fs.FS) (cpus float64, ok bool) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	tighten := func(limit float64, limited bool) {
		if limited && (!ok || limit < cpus) {
			cpus, ok = limit, true
		}
	}
	for line := range strings.Lines(string(groups)) {
		// hierarchy:controllers:path; version 2 names no controller (cgroups(7)).
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, dir := range cgroupDirs(parts[1], parts[2]) {
			tighten(quotaV2(root, dir))
			tighten(quotaV1(root, dir))
		}
	}
	return cpus, ok
}

// cgroupDirs are the directories that may limit a group, in the usual mounts. In a
// container the group's path may be that of the host, and the mount's root the group.
func cgroupDirs(controllers, group string) []string {
	var mounts []string
	switch {
	case controllers == "":
		mounts = []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}
	case strings.Contains(","+controllers+",", ",cpu,"):
		mounts = []string{"sys/fs/cgroup/cpu", "sys/fs/cgroup/" + controllers}
	}
	var dirs []string
	for _, mount := range mounts {
		for g := path.Clean("/" + group); ; g = path.Dir(g) {
			dirs = append(dirs, mount+strings.TrimSuffix(g, "/"))
			if g == "/" {
				break
			}
		}
	}
	return dirs
}

// quotaV2 reads "max 100000" or "150000 100000": microseconds in each period.
func quotaV2(root fs.FS, dir string) (float64, bool) {
	b, err := fs.ReadFile(root, dir+"/cpu.max")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(b))
	if len(fields) != 2 {
		return 0, false
	}
	return ratio(fields[0], fields[1])
}

// quotaV1 reads the quota, -1 for none, and the period from files of their own.
func quotaV1(root fs.FS, dir string) (float64, bool) {
	quota, err := fs.ReadFile(root, dir+"/cpu.cfs_quota_us")
	if err != nil {
		return 0, false
	}
	period, err := fs.ReadFile(root, dir+"/cpu.cfs_period_us")
	if err != nil {
		return 0, false
	}
	return ratio(strings.TrimSpace(string(quota)), strings.TrimSpace(string(period)))
}

func ratio(quota, period string) (float64, bool) {
	q, err := strconv.ParseInt(quota, 10, 64)
	if err != nil || q <= 0 {
		return 0, false
	}
	p, err := strconv.ParseInt(period, 10, 64)
	if err != nil || p <= 0 {
		return 0, false
	}
	return float64(q) / float64(p), true
}
