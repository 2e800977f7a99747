// The media of one call: two transports, the microphone's producer, a consumer
// per speaker. It lives as long as its transports do; a call may go through
// several, one after another.

import { Device, type types } from 'mediasoup-client';
import { factsOf, type Facts } from './facts.js';
import { Meter } from './level.js';
import type { Message, Signal } from './signal.js';

export interface Speaker {
  user: string;
  consumer: types.Consumer;
  audio: HTMLAudioElement;
  meter: Meter;
}

export interface Hooks {
  signal(): Signal;
  lost(reason: string): void;
  blocked(): void; // the browser wants a click before it plays
  changed(): void;
}

export class Media {
  readonly speakers = new Map<string, Speaker>(); // by producer id
  producer: types.Producer | null = null;
  closed = false;
  #asked = new Set<string>(); // producers whose consumer is on its way
  #send: types.Transport | null = null;
  #recv: types.Transport | null = null;

  constructor(
    private readonly device: Device,
    private readonly context: AudioContext,
    private readonly hooks: Hooks,
  ) {}

  // open makes both transports. The browser connects them at the first use.
  async open(): Promise<void> {
    this.#send = await this.#transport('send');
    this.#recv = await this.#transport('recv');
    this.#send.on('produce', ({ kind, rtpParameters }, done, failed) => {
      this.hooks
        .signal()
        .request('produce', { transportId: this.#send?.id, kind, rtpParameters })
        .then((answer) => done({ id: answer.data.id }), failed);
    });
  }

  async speak(track: MediaStreamTrack, paused: boolean): Promise<void> {
    if (!this.#send || this.closed) return;
    this.producer = await this.#send.produce({ track, stopTracks: false, codecOptions: { opusDtx: true, opusFec: true } });
    if (paused) await this.setPaused(true);
  }

  async setPaused(paused: boolean): Promise<void> {
    const producer = this.producer;
    if (!producer || producer.closed) return;
    if (paused) producer.pause();
    else producer.resume();
    await this.hooks.signal().request(paused ? 'pause' : 'resume', { producerId: producer.id });
  }

  // hear asks for a producer once, and plays it.
  async hear(producerId: string, user: string): Promise<void> {
    if (!this.#recv || this.closed || this.speakers.has(producerId) || this.#asked.has(producerId)) return;
    this.#asked.add(producerId);
    try {
      const { data } = await this.hooks.signal().request('consume', {
        producerId,
        transportId: this.#recv.id,
        rtpCapabilities: this.device.recvRtpCapabilities,
      });
      const consumer = await this.#recv.consume({ id: data.id, producerId, kind: data.kind, rtpParameters: data.rtpParameters });
      if (!this.#asked.has(producerId)) {
        consumer.close(); // its speaker left meanwhile
        return;
      }
      this.#play(producerId, user, consumer);
    } finally {
      this.#asked.delete(producerId);
      this.hooks.changed();
    }
  }

  // forget drops a producer that ended.
  forget(producerId: string): void {
    this.#asked.delete(producerId);
    if (this.producer?.id === producerId) {
      this.producer.close();
      this.producer = null;
    }
    const speaker = this.speakers.get(producerId);
    if (!speaker) return;
    this.speakers.delete(producerId);
    speaker.consumer.close();
    speaker.meter.close();
    speaker.audio.srcObject = null;
    speaker.audio.remove();
  }

  has(transportId: string): boolean {
    return this.#send?.id === transportId || this.#recv?.id === transportId;
  }

  get alive(): boolean {
    const usable = (transport: types.Transport | null) => !!transport && !transport.closed && transport.connectionState !== 'failed';
    return !this.closed && usable(this.#send) && usable(this.#recv);
  }

  async facts(): Promise<Record<string, Facts>> {
    const facts: Record<string, Facts> = {};
    for (const [name, transport] of [['send', this.#send], ['receive', this.#recv]] as const) {
      if (transport && !transport.closed) facts[name] = factsOf(await transport.getStats(), transport.connectionState);
    }
    return facts;
  }

  play(): void {
    for (const { audio } of this.speakers.values()) this.#start(audio);
  }

  // close ends everything here. The server is told when it may still have it.
  close(tellServer: boolean): void {
    if (this.closed) return;
    this.closed = true;
    for (const producerId of [...this.speakers.keys()]) this.forget(producerId);
    for (const transport of [this.#send, this.#recv]) {
      if (!transport) continue;
      if (tellServer) this.hooks.signal().send('close-transport', { transportId: transport.id });
      transport.close();
    }
    this.producer = null;
  }

  async #transport(type: 'send' | 'recv'): Promise<types.Transport> {
    const { data } = await this.hooks.signal().request('create-transport', { type });
    const options: types.TransportOptions = {
      id: data.id,
      iceParameters: data.iceParameters,
      iceCandidates: data.iceCandidates,
      dtlsParameters: data.dtlsParameters,
      iceServers: data.iceServers,
    };
    const transport = type === 'send' ? this.device.createSendTransport(options) : this.device.createRecvTransport(options);
    transport.on('connect', ({ dtlsParameters }, done, failed) => {
      this.hooks
        .signal()
        .request('connect-transport', { transportId: transport.id, dtlsParameters })
        .then((_answer: Message) => done(), failed);
    });
    transport.on('connectionstatechange', (state) => {
      this.hooks.changed();
      if (state === 'failed' && !this.closed) this.hooks.lost(`The ${type} transport failed`);
    });
    return transport;
  }

  #play(producerId: string, user: string, consumer: types.Consumer): void {
    const audio = document.createElement('audio');
    audio.autoplay = true;
    audio.srcObject = new MediaStream([consumer.track]);
    document.getElementById('audio')?.append(audio);
    this.speakers.set(producerId, { user, consumer, audio, meter: new Meter(this.context, consumer.track) });
    this.#start(audio);
  }

  #start(audio: HTMLAudioElement): void {
    audio.play().catch((error: Error) => {
      if (error.name === 'NotAllowedError') this.hooks.blocked();
    });
  }
}
