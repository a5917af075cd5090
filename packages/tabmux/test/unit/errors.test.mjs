// docs/errors.md has the texts of all errors, and no others.

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../..', import.meta.url));
/** Scripts that pages load, and the hub. */
const SOURCES = ['packages/tabmux/src', 'crates/core/src/hub'];
/** Printed, and no text of an error. */
const PRINTED = /tabmux: (the hub trapped and is replaced|this tab joined a connection|\$\{ignored\} messages)/;

let texts;
let documented;

before(async () => {
  const files = await Promise.all(SOURCES.map(async (folder) => {
    const names = await readdir(join(root, folder), { recursive: true });
    const own = names.filter((name) => /\.(ts|rs)$/.test(name) &&
      !/^(node|testing|generated|entries)\b/.test(name));
    return Promise.all(own.map((name) => readFile(join(root, folder, name), 'utf8')));
  }));
  // A text that goes on in the next line is one text.
  texts = files.flat().map((text) =>
    text.replaceAll(/\\\n\s*/g, '').replaceAll(/['"`] \+\n\s*['"`]/g, '')
      // Parts that `text!` puts together.
      .replaceAll(/text!\([^]*?\n *\)/g, (parts) => parts.replaceAll('\n', ' ')));
  const page = await readFile(join(root, 'docs/errors.md'), 'utf8');
  documented = [...page.matchAll(/^\| (`[^|]*`) \|/gm)].flatMap(([, cell]) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, text]) => text));
});

test('each text of docs/errors.md is in the sources', () => {
  assert.ok(documented.length > 20, `${documented}`);
  const missing = documented.filter((text) => !texts.some((source) => source.includes(text)));
  assert.deepEqual(missing, []);
});

test('each text of the sources is in docs/errors.md', () => {
  const errors = texts.flatMap((text) => [...text.matchAll(/["'`]tabmux: [^\n]*/g)].map(String));
  assert.ok(errors.length > 20);
  const unknown = errors.filter((error) => !PRINTED.test(error) &&
    // `'tabmux: ' + text`: the text is elsewhere.
    !/tabmux: ('|", message\))/.test(error) &&
    !documented.some((text) => error.includes(text)));
  assert.deepEqual(unknown, []);
});
