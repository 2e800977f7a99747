// Statistics of a client's transports, in one form for all browsers.

// inboundStats is by the speaker's name.
export async function inboundStats(user) {
  const result = {};
  for (const [name, consumer] of user.consumers()) {
    for (const stat of (await consumer.getStats()).values()) {
      if (stat.type !== 'inbound-rtp') continue;
      result[name] = {
        packets: stat.packetsReceived ?? 0,
        lost: stat.packetsLost ?? 0,
        audioLevel: stat.audioLevel ?? 0,
        energy: stat.totalAudioEnergy ?? 0,
        concealed: stat.concealedSamples ?? 0,
        silentConcealed: stat.silentConcealedSamples ?? 0,
        concealments: stat.concealmentEvents ?? 0,
        samples: stat.totalSamplesReceived ?? 0,
        ssrc: stat.ssrc,
      };
    }
  }
  return result;
}

export async function transportStats(user) {
  const result = {};
  for (const [name, transport] of Object.entries(user.transports())) {
    const report = await transport.getStats();
    const all = [...report.values()];
    const about = all.find((stat) => stat.type === 'transport');
    const pair = about?.selectedCandidatePairId
      ? report.get(about.selectedCandidatePairId)
      : all.find((stat) => stat.type === 'candidate-pair' && (stat.selected || (stat.nominated && stat.state === 'succeeded')));
    const local = pair && report.get(pair.localCandidateId);
    const remote = pair && report.get(pair.remoteCandidateId);
    const theirs = all.find((stat) => stat.type === 'remote-inbound-rtp');
    result[name] = {
      id: transport.id,
      state: transport.connectionState,
      srtpCipher: about?.srtpCipher ?? '',
      protocol: local?.protocol ?? '',
      remoteProtocol: remote?.protocol ?? '',
      remoteAddress: remote?.address ?? '',
      rttMs: pair?.currentRoundTripTime === undefined ? -1 : pair.currentRoundTripTime * 1000,
      reportedRttMs: theirs?.roundTripTime === undefined ? -1 : theirs.roundTripTime * 1000,
      reportedLost: theirs?.packetsLost ?? -1,
    };
  }
  return result;
}
