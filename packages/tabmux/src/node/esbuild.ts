// `tabmux/esbuild`: emits worker.js and its modules, and puts their addresses into the bundle.

import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

import { CLIENT, UNKNOWN, filesOf, isOurs, nameOf, readBeside, withUrls } from './worker_url.js';

/** The prefix of the names of files that the bundle imports for their addresses. */
const SCHEME = 'tabmux-file:';

/** The result of this plugin for a file: its contents and loader, or warnings. */
export type EsbuildLoaded =
  | { contents: string | Uint8Array; loader: 'js' | 'file'; resolveDir?: string }
  | { warnings: { text: string }[] };

/** The part of esbuild's plugin interface that this plugin uses. */
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

/** A plugin for esbuild, as far as this package needs the type. */
export interface TabmuxEsbuildPlugin {
  name: string;
  setup(build: EsbuildBuild): void;
}

/** Returns the plugin for esbuild. */
export default function tabmux(): TabmuxEsbuildPlugin {
  return {
    name: 'tabmux',
    setup(build) {
      // A classic script has no `import.meta`.
      const isModule = build.initialOptions.format === 'esm';
      build.onLoad({ filter: CLIENT }, async ({ path }) => {
        const code = await readFile(path, 'utf8');
        const files = filesOf(code);
        if (files.length === 0) {
          return isOurs(path) ? { warnings: [{ text: `${path} ${UNKNOWN}` }] } : null;
        }
        const imports = files.map((file, at) => `import tabmuxFile${at} from '${SCHEME}${file}';`);
        const url = (file: string): string =>
          `new URL(tabmuxFile${files.indexOf(file)}, tabmuxBase)`;
        const base = isModule ? 'import.meta.url'
          : 'globalThis.document?.currentScript?.src ?? globalThis.location?.href';
        return {
          contents: [...imports, `const tabmuxBase = ${base};`, withUrls(code, url)].join('\n'),
          loader: 'js',
          resolveDir: dirname(path),
        };
      });
      build.onResolve({ filter: new RegExp(`^${SCHEME}`) }, ({ path, resolveDir }) => {
        const file = path.slice(SCHEME.length);
        return { path: nameOf(file), namespace: 'tabmux', pluginData: join(resolveDir, file) };
      });
      build.onLoad({ filter: /./, namespace: 'tabmux' }, async ({ pluginData }) =>
        ({ contents: await readBeside(pluginData, basename(pluginData)), loader: 'file' }));
    },
  };
}
