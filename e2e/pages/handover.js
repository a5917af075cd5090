// The page of `cargo xtask bench handover`: one socket that gets a tick each hundredth of a second,
// and what a user of it would notice. The query names the tier; `none` is a WebSocket of the
// browser. Whatever closes is opened again at once, and every 100 ms while that fails.

import { SharedWebSocket, connect } from '/tabmux/client.js';

const RETRY_MS = 100;
const tier = new URLSearchParams(location.search).get('tier');
const options = { mode: 'mux', tiers: [tier] };
/** The last tick and its time; a page that is loaded again finds those of the page before. */
let last = JSON.parse(sessionStorage.getItem('last') ?? 'null');
/** Which socket got it. */
let from = 0;
let sockets = 0;
const recent = new Set();
const zero = { gap: 0, said: 0, silent: 0, duplicated: 0, ticks: 0 };

const receive = (data, socket) => {
  const tick = Number(data.slice(2));
  const at = performance.timeOrigin + performance.now();
  H.seen.ticks += 1;
  if (recent.has(tick)) {
    H.seen.duplicated += 1;
    return;
  }
  recent.add(tick);
  if (last) {
    H.seen.gap = Math.max(H.seen.gap, at - last.at);
    const missing = Math.max(0, tick - last.tick - 1);
    // Another socket, or another page: the one before was seen to end.
    if (socket === from) H.seen.silent += missing;
    else H.seen.said += missing;
  }
  last = { tick, at };
  from = socket;
  H.last = tick;
  sessionStorage.setItem('last', JSON.stringify(last));
  if (H.tells) {
    localStorage.told = JSON.stringify({ ...H.seen, last: tick, is: document.visibilityState });
  }
};

const H = {
  seen: { ...zero },
  last: 0,
  /** Whether another page is to see all this in localStorage: to ask this one would show it. */
  tells: false,
  open: (url) => {
    sockets += 1;
    const id = sockets;
    const socket = tier === 'none' ? new WebSocket(url) : new SharedWebSocket(url, [], options);
    let opened = false;
    socket.onopen = () => (opened = true);
    socket.onmessage = ({ data }) => receive(data, id);
    socket.onclose = () => {
      if (opened) H.open(url);
      else setTimeout(() => H.open(url), RETRY_MS);
    };
  },
  /** How the hub is hosted; resolves once it is known. */
  tier: (url) => new Promise((resolve) => {
    const client = connect(url, options);
    const look = () => {
      const { state, tier: actual, reason } = client.status;
      if (state === 'connected' || state === 'closed') resolve(state === 'closed' ? reason : actual);
    };
    client.on('status', look);
    look();
  }),
  /** From now on. */
  reset: () => {
    H.seen = { ...zero };
    recent.clear();
  },
};

window.H = H;
window.handoverReady();
