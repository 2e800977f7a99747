// A well-behaved user: one request after another by request id, each producer
// consumed once.

export class User {
  errors = [];
  events = []; // type of every message that was no answer
  connectedMessage = '';
  kicked = '';
  sockets = 0;
  #options;
  #socket = null;
  #pending = new Map();
  #last = 0;
  #device = null;
  #send = null;
  #recv = null;
  #producer = null;
  #consumers = new Map(); // producer id to {name, consumer}
  #asked = new Set();
  #pace = {}; // see setPace
  #answered = 0; // consume requests since then
  #inRoom = [];
  #owners = {};

  constructor(options) {
    this.#options = options;
  }

  async join() {
    await this.#dial();
    this.#device = await this.#options.library.makeDevice();
    await this.#device.load({ routerRtpCapabilities: (await this.#request('get-rtp-capabilities')).data });
    await this.#request('client-rtp-capabilities', this.#device.rtpCapabilities);
    await this.#open();
    this.#follow();
  }

  state() {
    return {
      inRoom: this.#inRoom,
      owners: this.#owners,
      producer: this.#producer?.id ?? '',
      heard: [...this.#consumers.values()].map(({ name }) => name),
      errors: this.errors,
      events: this.events,
      connected: this.connectedMessage,
      kicked: this.kicked,
      sockets: this.sockets,
      open: this.#socket?.readyState === WebSocket.OPEN,
    };
  }

  tracks() {
    return new Map([...this.#consumers.values()].map(({ name, consumer }) => [name, consumer.track]));
  }

  consumers() {
    return new Map([...this.#consumers.values()].map(({ name, consumer }) => [name, consumer]));
  }

  transports() {
    const all = { send: this.#send, recv: this.#recv };
    return Object.fromEntries(Object.entries(all).filter(([, transport]) => transport && !transport.closed));
  }

  async mute() {
    this.#producer.pause();
    await this.#request('pause', { producerId: this.#producer.id });
  }

  async unmute() {
    this.#producer.resume();
    await this.#request('resume', { producerId: this.#producer.id });
  }

  // dropSocket loses the socket and nothing else.
  dropSocket() {
    const closed = new Promise((resolve) => this.#socket.addEventListener('close', resolve, { once: true }));
    this.#socket.close();
    return closed.then(() => {});
  }

  // redial comes back and keeps the media.
  async redial() {
    await this.#dial();
    await this.#request('client-rtp-capabilities', { rtpCapabilities: this.#device.rtpCapabilities });
    this.#follow();
  }

  // rebuild makes new transports in the place of lost ones.
  async rebuild() {
    for (const { consumer } of this.#consumers.values()) consumer.close();
    this.#consumers.clear();
    this.#asked.clear();
    this.#send?.close();
    this.#recv?.close();
    await this.#open();
    this.#follow();
  }

  // reproduce unmutes as the shipped client does: by a fresh producer on the old transport.
  async reproduce() {
    this.#producer?.close();
    this.#producer = await this.#send.produce({ track: this.#options.sound.track() });
    return this.#producer.id;
  }

  // rejoin gives both transports up and begins anew, as a late joiner does.
  async rejoin() {
    for (const transport of Object.values(this.transports())) await this.#request('close-transport', { transportId: transport.id });
    await this.rebuild();
  }

  // setPace makes the page slow from now on: it lets waits[n] ms pass between the n-th
  // answer to a consume request and its media section, and does nothing else for blocks[n].
  setPace(waits, blocks) {
    this.#pace = { waits, blocks };
    this.#answered = 0;
  }

  // sent is how many packets the present producer has sent.
  async sent() {
    for (const stat of (await this.#producer.getStats()).values()) {
      if (stat.type === 'outbound-rtp') return stat.packetsSent;
    }
    return 0;
  }

  leave() {
    this.#send?.close();
    this.#recv?.close();
    return this.dropSocket();
  }

  async #open() {
    this.#send = await this.#transport('send');
    this.#recv = await this.#transport('recv');
    if (this.#options.listenOnly) return;
    this.#producer = await this.#send.produce({ track: this.#options.sound.track() });
  }

  async #transport(type) {
    const { data } = await this.#request('create-transport', { type });
    const { id, iceParameters, dtlsParameters, iceServers } = data;
    const iceCandidates = data.iceCandidates.filter(({ protocol }) => !window.e2eProtocol || protocol === window.e2eProtocol);
    const options = { id, iceParameters, iceCandidates, dtlsParameters, iceServers };
    const transport = type === 'send' ? this.#device.createSendTransport(options) : this.#device.createRecvTransport(options);
    transport.on('connect', (params, done, failed) => {
      this.#request('connect-transport', { transportId: id, dtlsParameters: params.dtlsParameters }).then(() => done(), failed);
    });
    transport.on('produce', ({ kind, rtpParameters }, done, failed) => {
      this.#request('produce', { transportId: id, kind, rtpParameters }).then((answer) => done({ id: answer.data.id }), failed);
    });
    return transport;
  }

  #dial() {
    const { url, name, channel } = this.#options;
    this.#socket = new WebSocket(`${url}?auth=${encodeURIComponent(name)}&channelId=${encodeURIComponent(channel)}`);
    this.sockets++;
    return new Promise((resolve, reject) => {
      this.#socket.onmessage = ({ data }) => this.#receive(JSON.parse(data), resolve);
      this.#socket.onclose = ({ code }) => reject(new Error(`socket closed with ${code}: ${this.errors.join(', ')}`));
    });
  }

  #request(type, data) {
    const requestId = `${++this.#last}`;
    this.#socket.send(JSON.stringify({ type, data, requestId }));
    return new Promise((resolve, reject) => this.#pending.set(requestId, { resolve, reject }));
  }

  #receive(message, connected) {
    const { type, requestId, data } = message;
    const pending = this.#pending.get(requestId);
    this.#pending.delete(requestId);
    if (pending) {
      if (type === 'error') pending.reject(new Error(`${data} ${message.details ?? ''}`));
      else pending.resolve(message);
      return;
    }
    this.events.push(type);
    if (type === 'connected') {
      this.connectedMessage = data.message;
      connected();
    } else if (type === 'error') {
      this.errors.push(data);
    } else if (type === 'force_disconnect') {
      this.kicked = message.reason;
    } else if (type === 'currentlyInChannel') {
      this.#inRoom = message.inRoom;
      this.#owners = message.producerUserMap;
      this.#follow();
    } else if (type === 'new-producer') {
      this.#owners[data.producerId] = data.userId;
      this.#follow();
    } else if (type === 'producer-closed') {
      delete this.#owners[data.producerId];
      this.#follow();
    }
  }

  #follow() {
    for (const [id, { consumer }] of this.#consumers) {
      if (id in this.#owners) continue;
      consumer.close();
      this.#consumers.delete(id);
      this.#asked.delete(id);
    }
    if (!this.#recv || this.#recv.closed) return;
    for (const [id, name] of Object.entries(this.#owners)) {
      if (name === this.#options.name || this.#asked.has(id)) continue;
      this.#asked.add(id);
      this.#consume(id, name).catch((error) => this.errors.push(error.message));
    }
  }

  async #consume(producerId, name) {
    const { data } = await this.#request('consume', { producerId, transportId: this.#recv.id, rtpCapabilities: this.#device.rtpCapabilities });
    await this.#slow(this.#answered++);
    const consumer = await this.#recv.consume({ id: data.id, producerId, kind: data.kind, rtpParameters: data.rtpParameters });
    if (data.userId !== name) this.errors.push(`consumer of ${producerId} names ${data.userId}, not ${name}`);
    if (producerId in this.#owners) this.#consumers.set(producerId, { name, consumer });
    else consumer.close();
  }

  async #slow(n) {
    const wait = this.#pace.waits?.[n];
    if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
    const end = performance.now() + (this.#pace.blocks?.[n] ?? 0);
    while (performance.now() < end);
  }
}
