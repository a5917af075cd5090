// The module `tabmux:page`, for esbuild: the page library as a function of the globals that it
// finds, so that one process can have several tabs of it.

import { join } from 'node:path';
import { build } from 'esbuild';

/** What of its globals the page library takes from the test bed. */
const OWN = ['globalThis', 'SharedWorker', 'Worker', 'navigator', 'localStorage', 'document',
  'addEventListener', 'WebSocket'];

/** `define` has the constants of build.mjs. */
export function pageLibrary(src, define) {
  return {
    name: 'page library',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^tabmux:page$/ }, () => ({ path: 'page', namespace: 'tabmux' }));
      onLoad({ filter: /^page$/, namespace: 'tabmux' }, async () => {
        const { outputFiles: [{ text }] } = await build({
          entryPoints: [join(src, 'index.ts')],
          bundle: true,
          write: false,
          format: 'iife',
          globalName: 'tabmux',
          mangleProps: /^_[^_]/,
          external: ['./tiers.js'],
          target: 'es2022',
          logLevel: 'warning',
          define: { ...define, 'import.meta.url': '"http://localhost/client.js"' },
        });
        return {
          contents: `export default function makePage(page) { const { ${OWN} } = page; ${text} return tabmux; }`,
          loader: 'js',
        };
      });
    },
  };
}
