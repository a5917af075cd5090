// The browser's own WebSocket, as the last resort finds it. It must be there before the library is.

/** One of them. A test plays the server. */
export class FakeSocket {
  static readonly all: FakeSocket[] = [];
  /** Whether the constructor throws, as it does where the page's policy forbids the connection. */
  static refuses = false;
  readonly said: unknown[] = [];
  readonly closed: [code: unknown, reason: unknown][] = [];
  protocol = 'chosen';
  extensions = '';
  binaryType = 'blob';
  bufferedAmount = 0;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onerror: (() => void) | null = null;
  onclose: ((event: { code: number; reason: string; wasClean: boolean }) => void) | null = null;

  constructor(readonly url: string | URL, readonly protocols: string[]) {
    if (FakeSocket.refuses) throw new DOMException('refused by policy', 'SecurityError');
    FakeSocket.all.push(this);
  }

  send(data: unknown): void {
    this.said.push(data);
  }

  close(code?: number, reason?: string): void {
    this.closed.push([code, reason]);
  }
}

Object.assign(globalThis, { WebSocket: FakeSocket });
