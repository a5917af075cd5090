// Events, and tasks.

/** Dispatches an event. Not every runtime has every class of event. */
export function emit(
  target: EventTarget,
  type: string,
  init?: object,
  Class?: new (type: string, init?: object) => Event,
): void {
  target.dispatchEvent(Class ? new Class(type, init) : Object.assign(new Event(type), init));
}

/** Does it in a task of its own, which comes sooner than that of a timer. */
export function inTask(act: () => void): unknown {
  // jsdom has no channels.
  if (!globalThis.MessageChannel) return setTimeout(act);
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    act();
  };
  return port2.postMessage(0);
}
