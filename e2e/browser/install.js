// What a test page offers to the test that drives it: window.e2e.
import { ReplayedClient } from './replay.js';
import { Sound } from './sound.js';
import { transportStats, inboundStats } from './stats.js';
import { User } from './user.js';

export function install(library) {
  const sound = new Sound();
  let user = null;
  let ownTrack = null;
  window.e2e = {
    version: library.version,
    // join resolves when the user has both transports and sends its tone.
    async join({ url, name, channel, tone, replay = false, listenOnly = false }) {
      const Client = replay ? ReplayedClient : User;
      user = new Client({ url, name, channel, library, sound, listenOnly });
      await sound.start(tone);
      await user.join();
    },
    call: (method, ...args) => user[method](...args),
    state: () => user.state(),
    // heard is the level in dB of each asked frequency in each other user's audio.
    heard: (tones) => Object.fromEntries([...user.tracks()].map(([name, track]) => [name, sound.levels(track, tones)])),
    // ownTone looks for tones in the page's own track.
    async ownTone(tone, tones) {
      await sound.start(tone);
      ownTrack ??= sound.track();
      return sound.levels(ownTrack, tones);
    },
    watch: (name, tone) => sound.watch(() => user.tracks().get(name), tone),
    gap: () => sound.gap(),
    inbound: async () => inboundStats(user),
    transports: async () => transportStats(user),
  };
}
