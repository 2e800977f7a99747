// A user that behaves on the wire as the shipped web client does: no request
// ids, transports taken by the order of their answers, every producer asked for
// at each sight of it, two microphone starts while it joins, a redial after each
// loss whose new transports it ignores, and an unmute by a fresh produce.

const stateless = JSON.stringify({});

export class ReplayedClient {
  errors = [];
  events = [];
  sent = {}; // messages by type
  failures = []; // what broke in the client's own media session
  sockets = 0;
  connectedMessage = '';
  kicked = '';
  #options;
  #socket = null;
  #device = null;
  #send = null;
  #recv = null;
  #pendingConnect = new Map();
  #pendingProduce = [];
  #producers = new Map();
  #ownProducers = new Set();
  #consumers = new Map();
  #owners = new Map();
  #speakers = new Map(); // for the test: as owners, but kept when the socket is lost
  #inRoom = [];
  #producing = false;
  #starting = false;
  #starts = 0;
  #ignored = 0;
  #lastCapabilities = stateless;
  #lastCapabilitiesAt = 0;
  #failedConsume = new Set();
  #redials = 0;
  #leaving = false;

  constructor(options) {
    this.#options = options;
  }

  // join starts the microphone twice: by itself when a transport is there, and
  // once more when the transport is connected.
  async join() {
    await this.#dial();
    await until(() => this.#producing && this.#send.connectionState === 'connected');
    await this.#startAudio();
  }

  state() {
    return {
      inRoom: this.#inRoom,
      owners: Object.fromEntries(this.#owners),
      producer: [...this.#producers.keys()].at(-1) ?? '',
      heard: [...this.#consumers.keys()].map((id) => this.#speakers.get(id)),
      errors: this.errors,
      failures: this.failures,
      events: this.events,
      connected: this.connectedMessage,
      kicked: this.kicked,
      sockets: this.sockets,
      open: this.#socket?.readyState === WebSocket.OPEN,
      sent: this.sent,
      starts: this.#starts,
      ignored: this.#ignored,
    };
  }

  tracks() {
    return new Map([...this.#consumers].map(([id, consumer]) => [this.#speakers.get(id), consumer.track]));
  }

  consumers() {
    return new Map([...this.#consumers].map(([id, consumer]) => [this.#speakers.get(id), consumer]));
  }

  transports() {
    const all = { send: this.#send, recv: this.#recv };
    return Object.fromEntries(Object.entries(all).filter(([, transport]) => transport && !transport.closed));
  }

  // mute ends the local producers and tells the server nothing.
  mute() {
    for (const producer of this.#producers.values()) producer.close();
    this.#producers.clear();
    this.#producing = false;
  }

  unmute() {
    return this.#startAudio();
  }

  dropSocket() {
    this.#socket.close();
  }

  leave() {
    this.#leaving = true;
    this.#send?.close();
    this.#recv?.close();
    this.#socket.close();
  }

  #dial() {
    const { url, name, channel } = this.#options;
    const socket = new WebSocket(`${url}?auth=${encodeURIComponent(name)}&channelId=${encodeURIComponent(channel)}`);
    this.#socket = socket;
    this.sockets++;
    return new Promise((resolve, reject) => {
      socket.onopen = () => {
        this.#redials = 0;
        setTimeout(() => this.#emit('get-rtp-capabilities'), 100);
        resolve();
      };
      socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
      socket.onerror = () => reject(new Error('WebSocket connection failed'));
      socket.onclose = () => {
        this.#owners.clear();
        if (!this.#leaving) this.#redial();
      };
    });
  }

  #redial() {
    if (this.#redials >= 5) return;
    this.#redials++;
    setTimeout(() => this.#dial().catch(() => {}), 2000 * this.#redials);
  }

  #emit(type, data) {
    this.sent[type] = (this.sent[type] ?? 0) + 1;
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(data === undefined ? { type } : { type, data }));
  }

  #receive(message) {
    const { type, data } = message;
    this.events.push(type);
    const handler = this.#handlers[type];
    if (handler) handler(message, data);
  }

  #handlers = {
    'rtp-capabilities': async (_message, data) => {
      const device = await this.#options.library.makeDevice();
      await device.load({ routerRtpCapabilities: clone(data) });
      this.#device = device;
      this.#emit('client-rtp-capabilities', { rtpCapabilities: normalised(device.rtpCapabilities) });
      this.#emit('create-transport', { type: 'send' });
      this.#emit('create-transport', { type: 'recv' });
    },
    'rtp-capabilities-ack': (_message, data) => {
      if (data && (data.codecs || data.headerExtensions)) this.failures.push('the acknowledgement would reload the device');
    },
    'transport-params': (_message, data) => {
      const { id, iceParameters, iceCandidates, dtlsParameters } = data;
      const options = { id, iceParameters, iceCandidates, dtlsParameters, appData: {} };
      if (!this.#send) this.#send = this.#wire(this.#device.createSendTransport(options));
      else if (!this.#recv) this.#recv = this.#wire(this.#device.createRecvTransport(options));
      else this.#ignored++;
      setTimeout(async () => {
        if (this.#producing) return;
        await new Promise((resolve) => setTimeout(resolve, 20)); // the probe of the microphone
        if (!this.#producing) await this.#startAudio(); // the other transport's answer may have done so
      }, 100);
    },
    'transport-connected': (message, data) => {
      const id = message.transportId || data?.transportId;
      const waiting = id ? [id] : [...this.#pendingConnect.keys()];
      for (const each of waiting) {
        this.#pendingConnect.get(each)?.();
        this.#pendingConnect.delete(each);
      }
    },
    'producer-id': (_message, data) => this.#pendingProduce.shift()?.({ id: data.id }),
    'produced': (_message, data) => {
      if (data?.id) this.#pendingProduce.shift()?.({ id: data.id });
    },
    'consumer-params': async (_message, data) => {
      if (data.userId) this.#owners.set(data.producerId, data.userId);
      this.#speakers.set(data.producerId, data.userId);
      try {
        const { id, producerId, kind, rtpParameters } = data;
        this.#consumers.set(producerId, await this.#recv.consume({ id, producerId, kind, rtpParameters }));
      } catch (error) {
        this.failures.push(`consume ${data.producerId}: ${error.message}`);
      }
    },
    'new-producer': (_message, data) => {
      if (data.userId) this.#owners.set(data.producerId, data.userId);
      if (!this.#ownProducers.has(data.producerId)) this.#whenReady(() => this.#requestConsumer(data.producerId));
    },
    'producer-closed': (_message, data) => {
      this.#consumers.get(data.producerId)?.close();
      this.#consumers.delete(data.producerId);
      this.#owners.delete(data.producerId);
    },
    'error': (message, data) => this.errors.push(message.details ? `${data}: ${message.details}` : data),
    'force_disconnect': (message) => {
      this.kicked = message.reason; // the shipped client ignores it
    },
    'currentlyInChannel': (message) => {
      this.#inRoom = message.inRoom;
      for (const [id, name] of Object.entries(message.producerUserMap ?? {})) this.#owners.set(id, name);
      for (const id of message.producers) this.#whenReady(() => this.#requestConsumer(id));
    },
    'available-producers': (_message, data) => {
      for (const id of data.producers) {
        if (!this.#ownProducers.has(id) && !this.#failedConsume.has(id)) this.#requestConsumer(id);
      }
    },
    'connected': (_message, data) => {
      this.connectedMessage = data.message;
    },
  };

  #whenReady(action) {
    if (this.#device?.loaded && this.#recv) action();
    else setTimeout(() => this.#whenReady(action), 100);
  }

  async #requestConsumer(id) {
    if (!this.#device || this.#ownProducers.has(id) || this.#consumers.has(id)) return;
    if (!this.#recv && !(await until(() => this.#recv, 5000).then(() => true, () => false))) return;
    const capabilities = clone(this.#device.rtpCapabilities);
    const text = JSON.stringify(capabilities);
    if (Date.now() - this.#lastCapabilitiesAt > 2000 || text !== this.#lastCapabilities) {
      this.#emit('client-rtp-capabilities', { rtpCapabilities: normalised(capabilities) });
      this.#lastCapabilities = text;
      this.#lastCapabilitiesAt = Date.now();
    }
    this.#emit('consume', { producerId: id, rtpCapabilities: capabilities, transportId: this.#recv.id });
    setTimeout(() => {
      if (!this.#consumers.has(id)) this.#failedConsume.add(id);
    }, 3000);
  }

  #wire(transport) {
    transport.on('connect', ({ dtlsParameters }, done) => {
      this.#pendingConnect.set(transport.id, done);
      this.#emit('connect-transport', { transportId: transport.id, dtlsParameters: clone(dtlsParameters) });
    });
    transport.on('produce', ({ kind, rtpParameters }, done) => {
      this.#pendingProduce.push(done);
      this.#emit('produce', { transportId: transport.id, kind, rtpParameters: clone(rtpParameters) });
    });
    transport.on('connectionstatechange', (state) => {
      if (state === 'failed' || state === 'disconnected') this.failures.push(`a transport became ${state}`);
    });
    return transport;
  }

  async #startAudio() {
    if (this.#starting) return;
    this.#starting = true;
    try {
      if (this.#producing && this.#producers.size > 0) {
        this.mute();
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      this.#starts++;
      const producer = await this.#send.produce({ track: this.#options.sound.track(), codecOptions: { opusDtx: true } });
      this.#producers.set(producer.id, producer);
      this.#ownProducers.add(producer.id);
      this.#producing = true;
    } catch (error) {
      this.failures.push(`produce: ${error.message}`);
    } finally {
      this.#starting = false;
    }
  }
}

function clone(value) {
  return JSON.parse(JSON.stringify(value));
}

// normalised adds what the shipped client adds to the Opus entries.
function normalised(capabilities) {
  const copy = clone(capabilities);
  for (const codec of copy.codecs) {
    codec.parameters ??= {};
    if (codec.mimeType.toLowerCase() !== 'audio/opus') continue;
    codec.parameters['sprop-stereo'] ??= 1;
    codec.parameters['usedtx'] ??= 1;
    codec.channels ??= 2;
  }
  return copy;
}

function until(condition, limit = 15000) {
  const start = performance.now();
  return new Promise((resolve, reject) => {
    const look = () => {
      if (condition()) resolve();
      else if (performance.now() - start > limit) reject(new Error('waited too long'));
      else setTimeout(look, 50);
    };
    look();
  });
}
