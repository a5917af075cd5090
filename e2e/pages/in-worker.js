// What a worker of the application does with the library: opens a socket and a client as it is told,
// and says what becomes of them. The library is in the global `tabmux`, or imported by in-worker.mjs.

const use = ({ SharedWebSocket, connect }, { feed, link, mode }, say) => {
  const isOwn = mode === 'native';
  const socket = isOwn ? new WebSocket(feed)
    : new SharedWebSocket(feed, [], { key: 'workers', mode });
  socket.onopen = () => say({ tier: socket.tier ?? mode, tabs: socket.shared?.tabs });
  socket.onmessage = ({ data }) => say({ data });
  socket.onerror = ({ message }) => say({ error: message });
  if (isOwn) return;
  const client = connect(link, { key: 'workers' });
  const tell = ({ state, reason }) => say({ state, reason });
  client.on('status', tell);
  tell(client.status);
};
globalThis.use = use;

if ('onconnect' in self) {
  importScripts('/tabmux/tabmux.iife.js');
  self.onconnect = ({ ports: [port] }) => {
    port.onmessage = ({ data }) => use(self.tabmux, data, (news) => port.postMessage(news));
  };
} else if ('skipWaiting' in self) {
  importScripts('/tabmux/tabmux.iife.js');
  self.oninstall = () => self.skipWaiting();
  self.onmessage = ({ data, ports: [port] }) => {
    use(self.tabmux, data, (news) => port.postMessage(news));
  };
}
