// The signaling socket: requests with their answers, and everything else as events.

// Message is one JSON frame. Its data is checked where it is used.
export interface Message {
  type: string;
  requestId?: unknown;
  data?: any;
  [key: string]: unknown;
}

// Refusal is an error message of the server.
export class Refusal extends Error {
  constructor(readonly text: string, readonly details?: string) {
    super(details ? `${text}: ${details}` : text);
  }
}

interface Pending {
  resolve(message: Message): void;
  reject(error: Error): void;
  timer: number;
}

const answerTimeout = 10_000;
const pingInterval = 15_000;

export class Signal {
  onMessage: (message: Message) => void = () => {};
  onClose: (reason: string) => void = () => {};
  #pending = new Map<string, Pending>();
  #last = 0;
  #ping: number;

  // open resolves when the socket is open and rejects when it cannot be opened.
  static open(url: string): Promise<Signal> {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url);
      socket.onopen = () => resolve(new Signal(socket));
      socket.onclose = () => reject(new Error('The server cannot be reached, or refuses this user'));
    });
  }

  private constructor(readonly socket: WebSocket) {
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#closed(event.reason || `code ${event.code}`);
    this.#ping = window.setInterval(() => this.send('ping'), pingInterval);
  }

  send(type: string, data?: unknown, requestId?: string): void {
    if (this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ type, data, requestId }));
    }
  }

  // request resolves with the first answer that carries its id.
  request(type: string, data?: unknown): Promise<Message> {
    if (this.socket.readyState !== WebSocket.OPEN) {
      return Promise.reject(new Error('The connection is closed'));
    }
    const id = `p${++this.#last}`;
    return new Promise((resolve, reject) => {
      const timer = window.setTimeout(() => {
        this.#pending.delete(id);
        reject(new Error(`No answer to ${type}`));
      }, answerTimeout);
      this.#pending.set(id, { resolve, reject, timer });
      this.send(type, data, id);
    });
  }

  close(): void {
    this.socket.close(1000);
  }

  #receive(text: string): void {
    const message = JSON.parse(text) as Message;
    if (message.type === 'ping') {
      this.send('pong');
      return;
    }
    const id = typeof message.requestId === 'string' ? message.requestId : '';
    const pending = this.#pending.get(id);
    if (!pending) {
      this.onMessage(message);
      return;
    }
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    if (message.type === 'error') {
      pending.reject(new Refusal(String(message.data), message['details'] as string | undefined));
    } else {
      pending.resolve(message);
    }
  }

  #closed(reason: string): void {
    clearInterval(this.#ping);
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(new Error('The connection was closed'));
    }
    this.#pending.clear();
    this.onClose(reason);
  }
}
