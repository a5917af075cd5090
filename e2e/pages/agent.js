// Takes scripts from the harness over a WebSocket, in a browser that no driver controls: see
// e2e/src/minibrowser.rs. Elsewhere it does nothing.
{
  const [, given] = /^#agent=(.*)$/.exec(location.hash) ?? [];
  if (given) {
    // The name stays while the tab lives, whatever page it shows.
    window.name = `agent=${given}`;
    history.replaceState(history.state, '', location.pathname + location.search);
  }
  const [, port, handle] = /^agent=(\d+)\.(.*)$/.exec(window.name) ?? [];
  let socket;

  const run = ({ data }) => {
    const { id, script } = JSON.parse(data);
    const to = socket;
    new Function(script)((answer) => to.send(JSON.stringify({ id, answer })));
  };

  const join = () => {
    socket?.close();
    socket = new WebSocket(`ws://localhost:${port}/${handle}`);
    socket.onmessage = run;
  };

  if (handle) window.addEventListener('pageshow', join);
}
