// Any script of the origin can post to a worker's ports and to its channels. What has no meaning
// there is ignored, and counted: each worker has one count for all of them, which `tabmux/debug`
// can ask for, and each page one for what it hears on the bus.

/** How many it were so far. */
export let ignored = 0;

/** Counts one more, and says so at powers of ten: a flood must not flood the console. */
export function ignore(): void {
  ignored += 1;
  if (Number.isInteger(Math.log10(ignored))) {
    console.warn(`tabmux: ${ignored} messages had no meaning and were ignored`);
  }
}
