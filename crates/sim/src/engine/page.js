// The application in a page: it does what the plan says and tells all that it hears.
export default ({ SharedWebSocket, connect }, tell) => {
  const sockets = new Map();
  const topics = new Map();
  let client;

  // An address that holds a secret, and is another one each time.
  const find = async (url, asks) => {
    const address = `${url}?secret=${Math.random()}`;
    if (asks === 'late') await new Promise((go) => setTimeout(go, 4000));
    if (asks === 'fail') throw new Error('nobody is logged in');
    return address;
  };

  globalThis.tabmuxApp = {
    client(options) {
      client = connect('/', options);
      const say = ({ state, tier, hubId, tabs, reason, user = '' }) =>
        tell('status', state, tier, hubId, tabs, reason, user);
      client.on('status', say);
      client.on('message', ({ data }) => tell('browser', data));
      client.on('gap', () => tell('browserGap'));
      say(client.status);
    },
    open(k, url, options, protocols = [], asks = '') {
      const given = asks ? () => find(url, asks) : url;
      const socket = new SharedWebSocket(given, protocols, options);
      socket.binaryType = 'arraybuffer';
      sockets.set(k, socket);
      socket.onopen = () => {
        const { reused, tabId } = socket.shared;
        tell('opened', k, reused, socket.protocol, socket.tier, tabId);
      };
      socket.addEventListener('reconnect', () => tell('reconnected', k));
      socket.onmessage = ({ data }) => tell('message', k,
        typeof data === 'string' ? data : String.fromCharCode(...new Uint8Array(data)));
      socket.onerror = ({ message }) => tell('error', k, message ?? '');
      socket.onclose = ({ code, reason, wasClean }) => tell('closed', k, code, reason, wasClean);
    },
    send(k, text) {
      sockets.get(k).send(text);
    },
    close(k, code) {
      sockets.get(k).close(code);
    },
    reconnect(k) {
      (sockets.get(k) ?? client).reconnect();
    },
    subscribe(k, name, since) {
      const topic = client.topic(name, { since });
      topics.set(k, topic);
      topic.ready.then(
        ({ epoch, offset }) => tell('ready', k, epoch, offset),
        (error) => tell('unready', k, error.message),
      );
      topic.on('message', ({ data, position: { epoch, offset } }) =>
        tell('publication', k, epoch, offset, data));
      topic.on('gap', ({ position: { epoch, offset } }) => tell('gap', k, epoch, offset));
      topic.on('end', ({ reason }) => tell('end', k, reason));
    },
    unsubscribe(k) {
      topics.get(k).close();
    },
  };
}
