// The page's end of the SharedWorker that tutorials teach, with the handlers of a WebSocket.

export class PlainSocket {
  #port;

  constructor(url) {
    const worker = new SharedWorker('/figures/plain-worker.js', { name: url });
    this.#port = worker.port;
    this.#port.onmessage = ({ data: { type, data } }) => this[`on${type}`]?.({ data });
  }

  send(data) {
    this.#port.postMessage({ type: 'send', data });
  }

  close() {
    this.#port.postMessage({ type: 'close' });
  }
}
