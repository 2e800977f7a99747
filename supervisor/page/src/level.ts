// Level meters: how loud a track is now.

const floorDecibels = -60;

export class Meter {
  #source: MediaStreamAudioSourceNode;
  #analyser: AnalyserNode;
  #samples: Float32Array<ArrayBuffer>;

  constructor(context: AudioContext, track: MediaStreamTrack) {
    this.#source = context.createMediaStreamSource(new MediaStream([track]));
    this.#analyser = context.createAnalyser();
    this.#analyser.fftSize = 1024;
    this.#samples = new Float32Array(this.#analyser.fftSize);
    this.#source.connect(this.#analyser);
  }

  // level is 0 for silence and 1 for full scale, linear in decibels.
  level(): number {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    if (sum === 0) return 0;
    const decibels = 10 * Math.log10(sum / this.#samples.length);
    return Math.min(1, Math.max(0, 1 - decibels / floorDecibels));
  }

  close(): void {
    this.#source.disconnect();
    this.#analyser.disconnect();
  }
}
