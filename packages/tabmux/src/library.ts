// What client.js has: the public face, and for tabmux/debug the hubs of the page.

export * from './index.js';
export { hubs } from './life.js';
