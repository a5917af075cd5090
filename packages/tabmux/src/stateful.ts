// Sub-protocols with a state for each connection, which tabs that share one confuse. Each end of
// such a connection counts requests, logs in, or acknowledges.

const STATEFUL = new RegExp('^(graphql-(transport-)?ws|v1[012]\\.stomp|mqtt(v3\\.1)?|amqp|nats|' +
  'actioncable(-v1)?-(json|msgpack)|wamp\\.2\\..*|ocpp.*|xmpp|sip|' +
  'jsonrpc.*)$', 'i');

let isWarned = false;

/** Warns once for each page, if this is the sub-protocol of a connection that a tab has joined. */
export function warnOf(protocol: string): void {
  if (isWarned || !STATEFUL.test(protocol)) return;
  isWarned = true;
  console.warn(`tabmux: this tab joined a connection of the sub-protocol '${protocol}', ` +
    "which has a state for each connection: in mode 'mirror' tabs disturb each other. " +
    "Use mode 'mux' or 'exclusive'");
}
