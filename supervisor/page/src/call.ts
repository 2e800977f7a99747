// A call: joins a channel, keeps its media in step with what the server says,
// and comes back by itself when the socket is lost.

import { Device } from 'mediasoup-client';
import type { Facts } from './facts.js';
import { Meter } from './level.js';
import { Media } from './media.js';
import { Signal, type Message } from './signal.js';

export type Phase = 'joining' | 'joined' | 'reconnecting' | 'ended';

export interface Person {
  user: string;
  self: boolean;
  speaks: boolean; // has a producer
  level: number;
}

const firstMessage = 'dspeak socket connection successful';
const retryPauses = [300, 1000, 2000, 4000, 8000];

export class Call {
  phase: Phase = 'joining';
  notice = '';
  muted = false;
  restored = 0; // sessions that the server restored
  onChange: () => void = () => {};
  #context = new AudioContext();
  #device: Device | null = null;
  #signal: Signal | null = null;
  #media: Media | null = null;
  #track: MediaStreamTrack | null = null;
  #ownMeter: Meter | null = null;
  #inRoom: string[] = [];
  #owners = new Map<string, string>(); // producer id to user
  #attempt = 0;
  #retryTimer = 0;

  constructor(readonly channel: string, readonly user: string) {}

  // join opens the microphone and the channel. Without a microphone one listens.
  async join(): Promise<void> {
    try {
      const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
      const stream = await navigator.mediaDevices.getUserMedia({ audio });
      this.#track = stream.getAudioTracks()[0] ?? null;
      if (this.#track) this.#ownMeter = new Meter(this.#context, this.#track);
    } catch (error) {
      const cause = navigator.mediaDevices ? (error as Error).message : 'the page needs https or localhost';
      this.#say(`You only listen: there is no microphone (${cause})`);
    }
    await this.#context.resume();
    await this.#connect();
  }

  async setMuted(muted: boolean): Promise<void> {
    this.muted = muted;
    this.onChange();
    await this.#media?.setPaused(muted);
  }

  // reconnect drops the socket and dials again, as after a network loss.
  reconnect(): void {
    this.#attempt = 0;
    if (this.#signal) this.#signal.close();
    else this.#retry();
  }

  leave(): void {
    this.#end('');
  }

  people(): Person[] {
    const speaking = new Map<string, number>();
    for (const { user, meter } of this.#media?.speakers.values() ?? []) speaking.set(user, meter.level());
    const producing = new Set(this.#owners.values());
    return this.#inRoom.map((user) => {
      const self = user === this.user;
      const level = self ? (this.muted ? 0 : (this.#ownMeter?.level() ?? 0)) : (speaking.get(user) ?? 0);
      return { user, self, speaks: producing.has(user), level };
    });
  }

  facts(): Promise<Record<string, Facts>> {
    return this.#media?.facts() ?? Promise.resolve({});
  }

  // play starts what the browser held back; it needs a user's click.
  play(): void {
    if (this.phase === 'ended') return;
    void this.#context.resume();
    this.#media?.play();
  }

  async #connect(): Promise<void> {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    // Not URLSearchParams: the server takes a plus sign for itself, not for a blank.
    const query = `auth=${encodeURIComponent(this.user)}&channelId=${encodeURIComponent(this.channel)}`;
    const signal = await Signal.open(`${scheme}://${location.host}/socket?${query}`);
    if (this.phase === 'ended') {
      signal.close();
      return;
    }
    this.#signal = signal;
    const welcome = new Promise<Message>((resolve, reject) => {
      signal.onMessage = (message) => {
        if (message.type === 'connected') resolve(message);
        else if (message.type === 'error') reject(new Error(String(message.data)));
        else this.#event(message);
      };
      signal.onClose = (reason) => reject(new Error(reason));
    });
    try {
      const { data } = await welcome;
      signal.onMessage = (message) => this.#event(message);
      signal.onClose = (reason) => this.#closed(reason);
      await this.#resume(data.message !== firstMessage);
    } catch (error) {
      this.#signal = null;
      signal.onClose = () => {};
      signal.close();
      throw error;
    }
  }

  // resume keeps the media of a restored session, else it builds it.
  async #resume(restored: boolean): Promise<void> {
    const signal = this.#need();
    if (!this.#device) {
      const { data } = await signal.request('get-rtp-capabilities');
      this.#device = await Device.factory();
      await this.#device.load({ routerRtpCapabilities: data });
    }
    await signal.request('client-rtp-capabilities', { rtpCapabilities: this.#device.recvRtpCapabilities });
    if (restored && this.#media?.alive) this.restored++;
    else await this.#build(false);
    this.phase = 'joined';
    this.#attempt = 0;
    this.#follow();
    this.onChange();
  }

  async #build(tellServer: boolean): Promise<void> {
    this.#media?.close(tellServer);
    if (!this.#device) return;
    const media = new Media(this.#device, this.#context, {
      signal: () => this.#need(),
      lost: (reason) => void this.#rebuild(reason),
      blocked: () => this.#say('The browser waits for a click before it plays sound'),
      changed: () => this.onChange(),
    });
    this.#media = media;
    await media.open();
    if (this.#track) await media.speak(this.#track, this.muted);
  }

  async #rebuild(reason: string): Promise<void> {
    this.#say(`${reason}: making new transports`);
    try {
      await this.#build(true);
      this.notice = '';
      this.#follow();
    } catch {
      this.#signal?.close(); // dialing again comes with pauses
    }
  }

  #event(message: Message): void {
    const data = message.data ?? {};
    switch (message.type) {
      case 'currentlyInChannel':
        this.#inRoom = (message['inRoom'] as string[] | undefined) ?? [];
        this.#owners = new Map(Object.entries((message['producerUserMap'] as Record<string, string> | undefined) ?? {}));
        this.#follow();
        break;
      case 'new-producer':
        this.#owners.set(data.producerId, data.userId);
        this.#follow();
        break;
      case 'producer-closed':
        this.#owners.delete(data.producerId);
        this.#follow();
        break;
      case 'transport-closed':
        if (this.#media?.has(String(message['transportId']))) void this.#rebuild(`The server closed a transport (${message['reason']})`);
        break;
      case 'force_disconnect':
        this.#end(`Disconnected by the server: ${message['reason'] ?? 'no reason given'}`);
        break;
      case 'server-restarting':
      case 'server-shutdown':
        this.#say(`The server stops: ${data.reason}`);
        break;
      case 'error':
        this.#say(String(message.data));
        break;
    }
    this.onChange();
  }

  // follow makes the consumers equal to the producers of the others.
  #follow(): void {
    const media = this.#media;
    if (!media || this.phase === 'ended') return;
    for (const producerId of media.speakers.keys()) {
      if (!this.#owners.has(producerId)) media.forget(producerId);
    }
    if (this.phase !== 'joined') return;
    for (const [producerId, user] of this.#owners) {
      if (user === this.user) continue;
      media.hear(producerId, user).catch((error: Error) => {
        if (this.#owners.has(producerId) && !media.closed) this.#say(`${user} cannot be heard: ${error.message}`);
      });
    }
  }

  #closed(reason: string): void {
    this.#signal = null;
    if (this.phase === 'ended') return;
    this.phase = 'reconnecting';
    this.#say(`The connection was lost (${reason})`);
    this.#retry();
  }

  #retry(): void {
    clearTimeout(this.#retryTimer);
    const pause = retryPauses[Math.min(this.#attempt++, retryPauses.length - 1)] ?? 0;
    this.#retryTimer = window.setTimeout(() => {
      if (this.phase === 'ended') return;
      this.#connect().then(
        () => this.#say(''),
        (error: Error) => {
          this.#say(error.message);
          if (this.phase !== 'ended') this.#retry();
        },
      );
    }, pause * (0.75 + Math.random() / 2));
  }

  #end(notice: string): void {
    if (this.phase === 'ended') return;
    this.phase = 'ended';
    clearTimeout(this.#retryTimer);
    this.notice = notice;
    this.#media?.close(!!this.#signal);
    this.#signal?.close();
    this.#signal = null;
    this.#ownMeter?.close();
    this.#track?.stop();
    void this.#context.close();
    this.onChange();
  }

  #need(): Signal {
    if (!this.#signal) throw new Error('The connection is closed');
    return this.#signal;
  }

  #say(notice: string): void {
    this.notice = notice;
    this.onChange();
  }
}
