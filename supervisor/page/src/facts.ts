// Connection facts of a transport, out of the browser's statistics.

export interface Facts {
  state: string;
  candidate: string; // local type and protocol
  server: string; // the server's address
  rttMs: number | null;
  lossPercent: number | null;
  packets: number;
}

type Stat = any;

export function factsOf(report: RTCStatsReport, state: string): Facts {
  const facts: Facts = { state, candidate: '', server: '', rttMs: null, lossPercent: null, packets: 0 };
  const all: Stat[] = [...report.values()];
  const pair = selectedPair(report, all);
  if (pair) {
    const local = report.get(pair.localCandidateId) as Stat;
    const remote = report.get(pair.remoteCandidateId) as Stat;
    facts.candidate = local ? `${local.candidateType} ${local.protocol}` : '';
    facts.server = remote ? hostPort(remote.address ?? '?', remote.port) : '';
    facts.rttMs = pair.currentRoundTripTime !== undefined ? pair.currentRoundTripTime * 1000 : null;
  }
  let received = 0;
  let lost = 0;
  for (const stat of all) {
    if (stat.type === 'inbound-rtp') {
      received += stat.packetsReceived ?? 0;
      lost += Math.max(0, stat.packetsLost ?? 0);
      facts.packets += stat.packetsReceived ?? 0;
    } else if (stat.type === 'outbound-rtp') {
      facts.packets += stat.packetsSent ?? 0;
    } else if (stat.type === 'remote-inbound-rtp') {
      facts.rttMs = stat.roundTripTime !== undefined ? stat.roundTripTime * 1000 : facts.rttMs;
      facts.lossPercent = stat.fractionLost !== undefined ? stat.fractionLost * 100 : facts.lossPercent;
    }
  }
  if (received + lost > 0) facts.lossPercent = (100 * lost) / (received + lost);
  return facts;
}

// selectedPair knows both forms: the transport names it, or the pair says so itself.
function selectedPair(report: RTCStatsReport, all: Stat[]): Stat {
  const transport = all.find((stat) => stat.type === 'transport' && stat.selectedCandidatePairId);
  if (transport) return report.get(transport.selectedCandidatePairId);
  return all.find((stat) => stat.type === 'candidate-pair' && (stat.selected || (stat.nominated && stat.state === 'succeeded')));
}

function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
