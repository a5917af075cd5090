// The table *library, mode, line of code* of README.md and docs/gateway.md, made of the lines that the
// tests run. `npm run table` writes it.

import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const repo = join(here, '../../../..');

/** What is said of each library: its mode without a gateway, and its server in the tests. */
const LIBRARIES = {
  'graphql-ws': ['exclusive', 'its own (graphql-ws and ws)'],
  Phoenix: ['exclusive', 'a small one'],
  stompjs: ['exclusive', 'a small one'],
  centrifuge: ['exclusive', 'a small one'],
  'Socket.IO': ['exclusive', 'its own (socket.io)'],
  'MQTT.js': ['exclusive', 'mosquitto behind ws, where Debian\'s package is installed, else aedes'],
  rxjs: ['mirror; exclusive for requests', 'a small one'],
  'reconnecting-websocket': ['mirror', 'a small one'],
  partysocket: ['mirror', 'a small one'],
  'y-websocket': ['exclusive', 'its own (y-websocket 2)'],
  SignalR: ['exclusive', 'a small one'],
  tRPC: ['exclusive', 'its own (@trpc/server)'],
  'Action Cable': ['exclusive', 'a small one'],
};

/** The two documents: path, what stands there, and what must. */
export async function documents() {
  const source = await readFile(join(here, 'page.mjs'), 'utf8');
  const rows = Object.entries(LIBRARIES).map(([name, [mode, server]]) => {
    const [, line] = source.match(new RegExp(`^ *// ${name.replace('.', '\\.')}:\\n *(.*)$`, 'm'));
    const code = line.replace(/^const \w+ = /, '').replace(/, \.\.\.\w+/, '').replace(/;$/, '').replace(/base\(url\)/, 'url');
    return { name, mode, server, code: `\`${code}\`` };
  });
  const table = (head, row) => [`| ${head.join(' | ')} |`, `|${' --- |'.repeat(head.length)}`,
    ...rows.map((it) => `| ${row(it).join(' | ')} |`)].join('\n');
  const tables = {
    'README.md': table(['library', 'how', 'mode without a gateway'], ({ name, mode, code }) => [name, code, mode]),
    'docs/gateway.md': table(['library', 'mode', 'line of code', 'server in the tests'],
      ({ name, code, server }) => [name, 'mux', code, server]),
  };
  return Promise.all(Object.entries(tables).map(async ([path, rows]) => {
    const text = await readFile(join(repo, path), 'utf8');
    return [path, text, text.replace(/(<!-- libraries -->\n)[^]*(<!-- \/libraries -->)/, `$1${rows.replaceAll('$', '$$$$')}\n$2`)];
  }));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [path, , fresh] of await documents()) await writeFile(join(repo, path), fresh);
}
