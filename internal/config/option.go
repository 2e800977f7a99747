package config

// Option describes one setting.
type Option struct {
	// Name is the key in the YAML file, with a dot between section and field.
	Name string
	// Env is the environment variable.
	Env string
	// Flag is the command-line flag without dashes, empty for none.
	Flag string
	// Default is the value as one would write it, empty for none.
	Default string
	// Help is one line for people.
	Help string
	// List says that the value is a list: in the file it may be a YAML list.
	List bool

	set func(*Config, string) error
}

// Options lists every setting, in the order of the documentation.
func Options() []Option {
	var all []Option
	for _, part := range [][]Option{
		processOptions(), httpOptions(), mediaOptions(), sendingOptions(), interopOptions(),
		signalingOptions(), limitOptions(), admissionOptions(), workerOptions(),
	} {
		all = append(all, part...)
	}
	return all
}

func processOptions() []Option {
	return []Option{
		{
			Name: "environment", Env: "NODE_ENV", Default: Development,
			Help: "`production` or `development`; chooses the announced media address when none is set, and whether the page at `/` is served",
			set:  func(c *Config, v string) error { return oneOf(&c.Environment, v, Development, Production) },
		},
		{
			Name: "run_dir", Env: "DSPEAK_RUN_DIR",
			Help: "directory of the processes' sockets; default `run` beside the binaries",
			set:  func(c *Config, v string) error { return text(&c.RunDir, v) },
		},
		{
			Name: "log.level", Env: "DSPEAK_LOG_LEVEL", Default: "info",
			Help: "`debug`, `info`, `warn` or `error`",
			set:  func(c *Config, v string) error { return level(&c.Log.Level, v) },
		},
		{
			Name: "log.format", Env: "DSPEAK_LOG_FORMAT", Default: "text",
			Help: "`text` or `json`",
			set:  func(c *Config, v string) error { return oneOf(&c.Log.Format, v, "text", "json") },
		},
	}
}

func httpOptions() []Option {
	return []Option{
		{
			Name: "http.port", Env: "PORT", Default: "8425",
			Help: "TCP port of HTTP and of the signaling WebSocket",
			set:  func(c *Config, v string) error { return port(&c.HTTP.Port, v) },
		},
		{
			Name: "http.host", Env: "DSPEAK_HTTP_HOST",
			Help: "address to bind; default all addresses",
			set:  func(c *Config, v string) error { return listenHost(&c.HTTP.Host, v) },
		},
		{
			Name: "http.origins", Env: "DSPEAK_ORIGINS", List: true,
			Help: "pages that may open a socket, by their `Origin`, separated by commas: `https://app.example.org`, `https://*.example.org`, `capacitor://localhost`, `null`; default `*`, any. Programs that send no `Origin` are not concerned",
			set:  func(c *Config, v string) error { return origins(&c.HTTP.Origins, v) },
		},
		{
			Name: "http.trusted_proxies", Env: "DSPEAK_TRUSTED_PROXIES", List: true,
			Help: "addresses or networks of proxies whose `X-Forwarded-For`, `X-Real-IP`, `X-Forwarded-Proto` and `X-Forwarded-Host` count, separated by commas",
			set:  func(c *Config, v string) error { return prefixes(&c.HTTP.TrustedProxies, v) },
		},
		{
			Name: "http.public_url", Env: "DSPEAK_PUBLIC_URL",
			Help: "URL of the signaling WebSocket as clients know it (`wss://sfu.example.org/socket`), told to those who ask without an upgrade; default from the request, which names the upstream where a proxy replaces `Host`",
			set:  func(c *Config, v string) error { return socketURL(&c.HTTP.PublicURL, v) },
		},
	}
}

func mediaOptions() []Option {
	return []Option{
		{
			Name: "media.port", Env: "SFU_PORT", Default: "12825",
			Help: "UDP and TCP port of the first worker for IPv4; one more for IPv6; each further worker adds one",
			set:  func(c *Config, v string) error { return port(&c.Media.Port, v) },
		},
		{
			Name: "media.bind", Env: "DSPEAK_MEDIA_BIND", List: true,
			Help: "local addresses to bind for media, IPv4 or IPv6, separated by commas; a family without one is not served; default all addresses",
			set:  func(c *Config, v string) error { return localAddresses(&c.Media.Bind, v) },
		},
		{
			Name: "media.ipv4", Env: "SFU_IPV4",
			Help: "announced IPv4 address, or host name whose IPv4 addresses are announced",
			set:  func(c *Config, v string) error { return address(&c.Media.IPv4, v, FamilyIPv4) },
		},
		{
			Name: "media.ipv4_port", Env: "SFU_IPV4_PORT",
			Help: "announced IPv4 port, when it differs from the bound one; default `PLAYIT_PUBLIC_PORT`, else `SFU_PORT`",
			set:  func(c *Config, v string) error { return port(&c.Media.IPv4Port, v) },
		},
		{
			Name: "media.playit_public_port", Env: "PLAYIT_PUBLIC_PORT",
			Help: "fallback for `SFU_IPV4_PORT`",
			set: func(c *Config, v string) error {
				var fallback int
				err := port(&fallback, v)
				if c.Media.IPv4Port == 0 {
					c.Media.IPv4Port = fallback
				}
				return err
			},
		},
		{
			Name: "media.ipv6", Env: "SFU_IPV6",
			Help: "announced IPv6 address, or host name whose IPv6 addresses are announced",
			set:  func(c *Config, v string) error { return address(&c.Media.IPv6, v, FamilyIPv6) },
		},
		{
			Name: "media.ipv6_port", Env: "SFU_IPV6_PORT",
			Help: "announced IPv6 port, when it differs from the bound one; default `SFU_PORT` plus one",
			set:  func(c *Config, v string) error { return port(&c.Media.IPv6Port, v) },
		},
		{
			Name: "media.preferred_family", Env: "SFU_PREFERRED_FAMILY",
			Help: "`ipv4` or `ipv6`: offer only that family's candidates, if it is announced at all",
			set:  func(c *Config, v string) error { return oneOf(&c.Media.PreferredFamily, v, FamilyIPv4, FamilyIPv6) },
		},
		{
			Name: "media.resolve_interval", Env: "DSPEAK_MEDIA_RESOLVE_INTERVAL", Default: "1m",
			Help: "time between look-ups of announced host names",
			set:  func(c *Config, v string) error { return duration(&c.Media.ResolveInterval, v) },
		},
	}
}

func sendingOptions() []Option {
	return []Option{
		{
			Name: "media.max_wait", Env: "DSPEAK_MEDIA_MAX_WAIT", Default: "6ms",
			Help: "how long a busy worker may let packets wait for others to the same destination, at most 20ms",
			set:  func(c *Config, v string) error { return wait(&c.Media.MaxWait, v) },
		},
		{
			Name: "media.segmentation", Env: "DSPEAK_MEDIA_SEGMENTATION", Default: SegmentationAuto,
			Help: "`auto` lets one send carry several packets to a client (UDP_SEGMENT) while the kernel takes it; `off` for a network driver that mishandles it",
			set: func(c *Config, v string) error {
				return oneOf(&c.Media.Segmentation, v, SegmentationAuto, SegmentationOff)
			},
		},
		{
			Name: "media.padding", Env: "DSPEAK_MEDIA_PADDING", Default: PaddingAuto,
			Help: "`auto` pads RTP payloads to few sizes while a worker is busy, so that more packets share a send; `always` and `off` do so whatever the load",
			set: func(c *Config, v string) error {
				return oneOf(&c.Media.Padding, v, PaddingAuto, PaddingAlways, PaddingOff)
			},
		},
		{
			Name: "media.buffer_bytes", Env: "DSPEAK_MEDIA_BUFFER_BYTES", Default: "4194304",
			Help: "wanted size of each media socket buffer, in bytes",
			set:  func(c *Config, v string) error { return whole(&c.Media.BufferBytes, v, 64<<10, 1<<30) },
		},
	}
}

func interopOptions() []Option {
	return []Option{
		{
			Name: "interop.api_base_url", Env: "INTEROP_API_BASE_URL",
			Help: "base URL of the main server (`https://api.example.org`); required in production, without it every socket is accepted in development",
			set:  func(c *Config, v string) error { return baseURL(&c.Interop.APIBaseURL, v, "http", "https") },
		},
		{
			Name: "interop.ws_api_base_url", Env: "INTEROP_WS_API_BASE_URL",
			Help: "WebSocket base URL of the main server; default `INTEROP_API_BASE_URL` with `http` replaced by `ws`",
			set:  func(c *Config, v string) error { return baseURL(&c.Interop.WSBaseURL, v, "ws", "wss") },
		},
		{
			Name: "interop.timeout", Env: "DSPEAK_INTEROP_TIMEOUT", Default: "5s",
			Help: "bound of one HTTP call to the main server",
			set:  func(c *Config, v string) error { return duration(&c.Interop.Timeout, v) },
		},
		{
			Name: "interop.ice_servers_interval", Env: "DSPEAK_ICE_SERVERS_INTERVAL", Default: "5m",
			Help: "time between reads of the ICE servers from the main server",
			set:  func(c *Config, v string) error { return duration(&c.Interop.ICEServersInterval, v) },
		},
	}
}

func signalingOptions() []Option {
	return []Option{
		{
			Name: "signaling.heartbeat_interval_ms", Env: "SFU_HEARTBEAT_INTERVAL_MS", Default: "15000",
			Help: "milliseconds between the server's pings",
			set:  func(c *Config, v string) error { return milliseconds(&c.Signaling.HeartbeatInterval, v, 10) },
		},
		{
			Name: "signaling.heartbeat_miss_threshold_ms", Env: "SFU_HEARTBEAT_MISS_THRESHOLD_MS", Default: "60000",
			Help: "milliseconds of silence after which a socket is closed",
			set:  func(c *Config, v string) error { return milliseconds(&c.Signaling.HeartbeatTimeout, v, 10) },
		},
		{
			Name: "signaling.grace_ms", Env: "SFU_GRACE_MS", Default: "60000",
			Help: "milliseconds for which a user's media goes on without a socket",
			set:  func(c *Config, v string) error { return milliseconds(&c.Signaling.Grace, v, 0) },
		},
		{
			Name: "signaling.kick_cooldown_ms", Env: "SFU_KICK_COOLDOWN_MS", Default: "60000",
			Help: "milliseconds for which a removed user may not open the channel again",
			set:  func(c *Config, v string) error { return milliseconds(&c.Signaling.KickCooldown, v, 0) },
		},
		{
			Name: "signaling.write_timeout", Env: "DSPEAK_WRITE_TIMEOUT", Default: "10s",
			Help: "bound of writing one message to a client",
			set:  func(c *Config, v string) error { return duration(&c.Signaling.WriteTimeout, v) },
		},
		{
			Name: "signaling.validation_timeout", Env: "DSPEAK_VALIDATION_TIMEOUT", Default: "5s",
			Help: "bound of the validation of a new socket",
			set:  func(c *Config, v string) error { return duration(&c.Signaling.ValidationTimeout, v) },
		},
	}
}

func limitOptions() []Option {
	const many = 1 << 20
	return []Option{
		{
			Name: "signaling.message_bytes", Env: "DSPEAK_MESSAGE_BYTES", Default: "65536",
			Help: "largest message of a client, in bytes",
			set:  func(c *Config, v string) error { return whole(&c.Signaling.MessageBytes, v, 4096, 16<<20) },
		},
		{
			Name: "signaling.rate", Env: "DSPEAK_MESSAGE_RATE", Default: "200",
			Help: "messages a second that a client may send in the long run; one of more than 16 KiB counts more than once",
			set:  func(c *Config, v string) error { return number(&c.Signaling.Rate, v, 1, many) },
		},
		{
			Name: "signaling.burst", Env: "DSPEAK_MESSAGE_BURST", Default: "4000",
			Help: "messages that a client may send at once",
			set:  func(c *Config, v string) error { return whole(&c.Signaling.Burst, v, 10, many) },
		},
		{
			Name: "signaling.pending_requests", Env: "DSPEAK_PENDING_REQUESTS", Default: "4000",
			Help: "requests of a client that may wait",
			set:  func(c *Config, v string) error { return whole(&c.Signaling.PendingRequests, v, 10, many) },
		},
		{
			Name: "signaling.send_queue", Env: "DSPEAK_SEND_QUEUE", Default: "16384",
			Help: "messages that may wait for a client",
			set:  func(c *Config, v string) error { return whole(&c.Signaling.SendQueue, v, 10, many) },
		},
		{
			Name: "signaling.connections", Env: "DSPEAK_CONNECTIONS", Default: "16384",
			Help: "open signaling sockets in all",
			set:  func(c *Config, v string) error { return whole(&c.Signaling.Connections, v, 1, many) },
		},
		{
			Name: "signaling.connections_per_address", Env: "DSPEAK_CONNECTIONS_PER_ADDRESS", Default: "1024",
			Help: "open signaling sockets of one client address (of one /64 for IPv6)",
			set:  func(c *Config, v string) error { return whole(&c.Signaling.ConnectionsPerAddress, v, 1, many) },
		},
	}
}

func admissionOptions() []Option {
	const many = 1 << 20
	return []Option{
		{
			Name: "signaling.admission_rate", Env: "DSPEAK_ADMISSION_RATE", Default: "400",
			Help: "signaling sockets accepted a second in the long run; the others wait",
			set:  func(c *Config, v string) error { return number(&c.Signaling.AdmissionRate, v, 1, many) },
		},
		{
			Name: "signaling.admission_burst", Env: "DSPEAK_ADMISSION_BURST", Default: "100",
			Help: "signaling sockets accepted at once",
			set:  func(c *Config, v string) error { return whole(&c.Signaling.AdmissionBurst, v, 1, many) },
		},
		{
			Name: "signaling.admission_queue", Env: "DSPEAK_ADMISSION_QUEUE", Default: "4096",
			Help: "clients that may wait to be accepted",
			set:  func(c *Config, v string) error { return whole(&c.Signaling.AdmissionQueue, v, 1, many) },
		},
		{
			Name: "signaling.admission_wait", Env: "DSPEAK_ADMISSION_WAIT", Default: "15s",
			Help: "how long a client may wait to be accepted, at most 25s; one whose turn comes later gets HTTP 503",
			set:  func(c *Config, v string) error { return admissionWait(&c.Signaling.AdmissionWait, v) },
		},
	}
}

func workerOptions() []Option {
	return []Option{
		{
			Name: "workers.count", Env: "DSPEAK_WORKERS", Flag: "workers", Default: "0",
			Help: "worker processes; 0: one per CPU that the affinity mask and the CPU quota allow to use fully",
			set:  func(c *Config, v string) error { return whole(&c.Workers.Count, v, 0, MaxWorkers) },
		},
		{
			Name: "workers.spare", Env: "DSPEAK_SPARE", Default: "true",
			Help: "keep one started worker ready for a slot whose worker died",
			set:  func(c *Config, v string) error { return truth(&c.Workers.Spare, v) },
		},
		{
			Name: "workers.binary", Env: "DSPEAK_WORKER_BINARY",
			Help: "path of the worker program; default `worker` beside the supervisor",
			set:  func(c *Config, v string) error { return text(&c.Workers.Binary, v) },
		},
		{
			Name: "workers.orphan_timeout", Env: "DSPEAK_ORPHAN_TIMEOUT", Default: "1m",
			Help: "how long a worker without users outlives its supervisor",
			set:  func(c *Config, v string) error { return duration(&c.Workers.OrphanTimeout, v) },
		},
		{
			Name: "workers.stop_timeout", Env: "DSPEAK_STOP_TIMEOUT", Default: "5s",
			Help: "how long a worker may take to end before it is killed",
			set:  func(c *Config, v string) error { return duration(&c.Workers.StopTimeout, v) },
		},
		{
			Name: "workers.restart_burst", Env: "DSPEAK_RESTART_BURST", Default: "5",
			Help: "processes of a worker that may die within a second, or not start, one after another without a pause before the next; their count halves every 30 s",
			set:  func(c *Config, v string) error { return whole(&c.Workers.RestartBurst, v, 1, 1<<20) },
		},
	}
}
