// An application that has the tarball of the package among its dependencies, and the texts of the
// documentation. `cargo xtask dist` has to have run.

import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const run = promisify(execFile);
export const here = dirname(fileURLToPath(import.meta.url));
export const repo = join(here, '../../../..');

/** Packs the package, and installs it in a folder from which Node finds the test runners. */
export async function install() {
  const apps = join(here, '.apps');
  await mkdir(apps, { recursive: true });
  const root = await mkdtemp(join(apps, 'app-'));
  await writeFile(join(root, 'package.json'), '{ "private": true, "type": "module" }');
  const tarball = await pack(root);
  await run('npm', ['install', '--offline', '--no-save', '--no-package-lock', '--legacy-peer-deps',
    tarball], { cwd: root });
  return {
    root,
    write: (name, text) => writeFile(join(root, name), text),
    remove: () => rm(root, { recursive: true, force: true }),
  };
}

/** Makes the tarball, and returns its path. */
export async function pack(folder) {
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], {
    cwd: join(here, '../..'),
  });
  return join(folder, JSON.parse(stdout)[0].filename);
}

/** The blocks of code of a document, by the name of the file in their first comment. */
export async function blocks(document) {
  const text = await readFile(join(repo, document), 'utf8');
  const found = [...text.matchAll(/^```\w+\n(?:\/\/|#|<!--) ([\w./-]+)(?: -->)?\n.*?^```/gms)];
  return Object.fromEntries(found.map(([block, name]) =>
    [name, block.split('\n').slice(2, -1).join('\n') + '\n']));
}
