// `tabmux/esbuild`: emits worker.js, and puts its address into the bundle.

import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';

import { CLIENT, UNKNOWN, isOurs, readWorker, withUrl } from './worker_url.js';

const WORKER = 'tabmux-worker.js';

/** What this plugin gives to esbuild in the place of a file, or says of a file. */
export type EsbuildLoaded =
  | { contents: string | Uint8Array; loader: 'js' | 'file'; resolveDir?: string }
  | { warnings: { text: string }[] };

/** What this plugin uses of esbuild. */
export interface EsbuildBuild {
  initialOptions: { format?: string; bundle?: boolean };
  onResolve(
    options: { filter: RegExp },
    callback: (found: { path: string; resolveDir: string }) =>
    { path: string; namespace: string; pluginData: string },
  ): void;
  onLoad(
    options: { filter: RegExp; namespace?: string },
    callback: (found: { path: string; pluginData: string }) =>
    Promise<EsbuildLoaded | null>,
  ): void;
}

/** A plugin of esbuild. */
export interface TabmuxEsbuildPlugin {
  name: string;
  setup(build: EsbuildBuild): void;
}

/** Returns the plugin. */
export default function tabmux(): TabmuxEsbuildPlugin {
  return {
    name: 'tabmux',
    setup(build) {
      // A classic script has no `import.meta`.
      const isModule = build.initialOptions.format === 'esm';
      build.onLoad({ filter: CLIENT }, async ({ path }) => {
        const code = withUrl(await readFile(path, 'utf8'), 'new URL(workerUrl, workerBase)');
        if (code === null) {
          return isOurs(path) ? { warnings: [{ text: `${path} ${UNKNOWN}` }] } : null;
        }
        const base = isModule ? 'import.meta.url'
          : 'globalThis.document?.currentScript?.src ?? globalThis.location?.href';
        return {
          contents: `import workerUrl from '${WORKER}';\nconst workerBase = ${base};\n${code}`,
          loader: 'js',
          resolveDir: dirname(path),
        };
      });
      build.onResolve({ filter: new RegExp(`^${WORKER}$`) }, ({ resolveDir }) =>
        ({ path: WORKER, namespace: 'tabmux', pluginData: resolveDir }));
      build.onLoad({ filter: /./, namespace: 'tabmux' }, async ({ pluginData }) =>
        ({ contents: await readWorker(`${pluginData}/client.js`), loader: 'file' }));
    },
  };
}
