// The SharedWorker that tutorials teach: one WebSocket, and what comes is posted to every port.
// The URL is the worker's name.

const ports = new Set();
let socket;

const tell = (message) => ports.forEach((port) => port.postMessage(message));

const open = () => {
  socket = new WebSocket(self.name);
  socket.onopen = () => tell({ type: 'open' });
  socket.onmessage = ({ data }) => tell({ type: 'message', data });
  socket.onclose = () => tell({ type: 'close' });
};

self.onconnect = ({ ports: [port] }) => {
  ports.add(port);
  port.onmessage = ({ data: { type, data } }) => {
    if (type === 'send') return socket.send(data);
    ports.delete(port);
    if (ports.size) return;
    socket.close();
    socket = undefined;
  };
  if (!socket) open();
  else if (socket.readyState === WebSocket.OPEN) port.postMessage({ type: 'open' });
};
