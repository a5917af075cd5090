// `tabmux/rollup`: emits worker.js and its modules, and puts their addresses into the bundle.

import { CLIENT, UNKNOWN, filesOf, isOurs, nameOf, readBeside, withUrls } from './worker_url.js';

/** The part of Rollup's plugin context that this plugin uses. */
export interface RollupContext {
  emitFile(file: { type: 'asset'; name: string; source: Uint8Array }): string;
  warn(text: string): void;
}

/** A plugin for Rollup, as far as this package needs the type. */
export interface TabmuxRollupPlugin {
  name: string;
  transform(
    this: RollupContext,
    code: string,
    id: string,
  ): Promise<{ code: string; map: null } | null>;
}

/** Returns the plugin for Rollup. */
export default function tabmux(): TabmuxRollupPlugin {
  return {
    name: 'tabmux',
    async transform(code, id) {
      if (!CLIENT.test(id)) return null;
      const files = filesOf(code);
      if (files.length === 0) {
        if (isOurs(id)) this.warn(`${id} ${UNKNOWN}`);
        return null;
      }
      const references = new Map<string, string>();
      for (const file of files) {
        const source = await readBeside(id, file);
        references.set(file, this.emitFile({ type: 'asset', name: nameOf(file), source }));
      }
      const url = (file: string): string => `import.meta.ROLLUP_FILE_URL_${references.get(file)}`;
      return { code: withUrls(code, url), map: null };
    },
  };
}
