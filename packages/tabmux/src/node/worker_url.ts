// How client.js asks for worker.js, which some bundlers do not see.

import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** As it stands in the built client.js. */
const EXPRESSION = 'import.meta.url?new URL("./worker.js",import.meta.url):"worker.js"';

/** Modules that may be client.js. */
export const CLIENT = /[\\/]client\.js$/;

/** What a plugin says of a client.js of this package that lacks the expression. */
export const UNKNOWN = 'has no address of worker.js that this plugin knows, so no worker will ' +
  'start: take the plugin and the page library from one version of tabmux, and let no other ' +
  'plugin change it';

/** Whether this client.js is that of this package. */
export const isOurs = (path: string): boolean =>
  /[\\/]tabmux[\\/]dist[\\/]client\.js$/.test(path);

/** Puts the expression `url` in the place of the worker's address. Null: another script. */
export function withUrl(code: string, url: string): string | null {
  return code.includes(EXPRESSION) ? code.replace(EXPRESSION, () => url) : null;
}

/** Reads the worker.js that lies beside this client.js. */
export const readWorker = (client: string): Promise<Uint8Array> =>
  readFile(join(dirname(client), 'worker.js'));
