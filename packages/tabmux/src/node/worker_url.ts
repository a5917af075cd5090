// Finds the addresses of worker.js and its wasm modules in client.js, for bundlers that do not see
// them.

import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** The form of each address in the built client.js. */
const EXPRESSION = /import\.meta\.url\?new URL\("\.\/([\w.]+)",import\.meta\.url\):"[\w.]*"/g;

/** Matches the paths of modules that may be client.js of this package. */
export const CLIENT = /[\\/]client\.js$/;

/** The plugin's warning about a client.js of this package that contains no such address. */
export const UNKNOWN = 'has no address of worker.js that this plugin knows, so no worker will ' +
  'start: take the plugin and the page library from one version of tabmux, and let no other ' +
  'plugin change it';

/** Returns true if this client.js belongs to this package. */
export const isOurs = (path: string): boolean =>
  /[\\/]tabmux[\\/]dist[\\/]client\.js$/.test(path);

/**
 * Returns the files that the script asks for: worker.js and its modules. Returns none for another
 * script.
 */
export const filesOf = (code: string): string[] =>
  [...code.matchAll(EXPRESSION)].map(([, file]) => file as string);

/** Replaces the address of each file by the expression that `url` returns for it. */
export const withUrls = (code: string, url: (file: string) => string): string =>
  code.replaceAll(EXPRESSION, (_, file: string) => url(file));

/** Returns the name that a file gets beside the files of an application. */
export const nameOf = (file: string): string => `tabmux-${file}`;

/** Reads a file that is beside this client.js. */
export const readBeside = (client: string, file: string): Promise<Uint8Array> =>
  readFile(join(dirname(client), file));
