// How client.js asks for worker.js and its wasm modules, which some bundlers do not see.

import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** As each address stands in the built client.js. */
const EXPRESSION = /import\.meta\.url\?new URL\("\.\/([\w.]+)",import\.meta\.url\):"[\w.]*"/g;

/** Modules that may be client.js. */
export const CLIENT = /[\\/]client\.js$/;

/** What a plugin says of a client.js of this package that lacks the expression. */
export const UNKNOWN = 'has no address of worker.js that this plugin knows, so no worker will ' +
  'start: take the plugin and the page library from one version of tabmux, and let no other ' +
  'plugin change it';

/** Whether this client.js is that of this package. */
export const isOurs = (path: string): boolean =>
  /[\\/]tabmux[\\/]dist[\\/]client\.js$/.test(path);

/** The files that this script asks for: worker.js and its modules. None: another script. */
export const filesOf = (code: string): string[] =>
  [...code.matchAll(EXPRESSION)].map(([, file]) => file as string);

/** Puts what `url` returns for a file in the place of the file's address. */
export const withUrls = (code: string, url: (file: string) => string): string =>
  code.replaceAll(EXPRESSION, (_, file: string) => url(file));

/** What a file is called beside the files of an application. */
export const nameOf = (file: string): string => `tabmux-${file}`;

/** Reads a file that lies beside this client.js. */
export const readBeside = (client: string, file: string): Promise<Uint8Array> =>
  readFile(join(dirname(client), file));
