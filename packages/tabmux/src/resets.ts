// `SharedWebSocket.reset`: a page says on a channel which connection ends, and the worker that has
// it ends it, in whichever tier it runs.

const CHANNEL = 'tabmux:reset';

/** Ends the connection to this URL with this key, in all tabs. Nothing happens without channels. */
export function sendReset(url: string, key: string): void {
  const channel = new BroadcastChannel(CHANNEL);
  channel.postMessage([url, key]);
  channel.close();
}

/** Calls `reset` when a page asks for it. */
export function listenForResets(reset: (url: string, key: string) => void): void {
  try {
    new BroadcastChannel(CHANNEL).onmessage = ({ data }: MessageEvent<unknown>) => {
      const [url, key] = Array.isArray(data) ? data as unknown[] : [];
      if (typeof url === 'string' && typeof key === 'string') reset(url, key);
    };
  } catch {
    // There are no channels, or they are refused.
  }
}
