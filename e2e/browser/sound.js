// The page's own tone, and the search for tones in what arrives.

const silence = -200;

export class Sound {
  #context = null;
  #analysers = new Map();
  #oscillator = null;
  #watch = null;

  async start(tone) {
    if (this.#context) return;
    this.#context = new AudioContext({ sampleRate: 48000 });
    await this.#context.resume();
    this.#oscillator = this.#context.createOscillator();
    this.#oscillator.frequency.value = tone;
    this.#oscillator.start();
  }

  // track is a fresh track with the page's tone.
  track() {
    const gain = this.#context.createGain();
    gain.gain.value = 0.5;
    const out = this.#context.createMediaStreamDestination();
    this.#oscillator.connect(gain).connect(out);
    return out.stream.getAudioTracks()[0];
  }

  // levels has the level in dB at each frequency, as an array.
  levels(track, tones) {
    return tones.map((tone) => this.#level(this.#analyser(track), tone));
  }

  // watch looks at a tone again and again and keeps the longest time without it.
  watch(track, tone) {
    clearInterval(this.#watch?.timer);
    const watch = { last: performance.now(), longest: 0, looks: 0 };
    watch.timer = setInterval(() => {
      const now = performance.now();
      const current = track();
      watch.looks++;
      watch.longest = Math.max(watch.longest, now - watch.last);
      if (current && this.#level(this.#analyser(current), tone) > -60) watch.last = now;
    }, 20);
    this.#watch = watch;
  }

  // gap ends the watch.
  gap() {
    clearInterval(this.#watch.timer);
    return { longestMs: Math.max(this.#watch.longest, performance.now() - this.#watch.last), looks: this.#watch.looks };
  }

  #analyser(track) {
    let entry = this.#analysers.get(track.id);
    if (!entry) {
      // Without an element that plays it, Chromium decodes no remote track.
      const element = new Audio();
      element.srcObject = new MediaStream([track]);
      void element.play().catch(() => {});
      const source = this.#context.createMediaStreamSource(new MediaStream([track]));
      const analyser = this.#context.createAnalyser();
      analyser.fftSize = 4096;
      analyser.smoothingTimeConstant = 0;
      source.connect(analyser);
      entry = { element, source, analyser };
      this.#analysers.set(track.id, entry);
    }
    return entry.analyser;
  }

  #level(analyser, tone) {
    const bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(bins);
    const middle = Math.round((tone * analyser.fftSize) / this.#context.sampleRate);
    const level = Math.max(...bins.slice(middle - 1, middle + 2));
    return Number.isFinite(level) ? level : silence; // JSON has no infinity
  }
}
