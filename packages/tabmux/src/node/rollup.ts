// `tabmux/rollup`: emits worker.js, and puts its address into the bundle.

import { CLIENT, UNKNOWN, isOurs, readWorker, withUrl } from './worker_url.js';

/** What this plugin uses of Rollup. */
export interface RollupContext {
  emitFile(file: { type: 'asset'; name: string; source: Uint8Array }): string;
  warn(text: string): void;
}

/** A plugin of Rollup. */
export interface TabmuxRollupPlugin {
  name: string;
  transform(
    this: RollupContext,
    code: string,
    id: string,
  ): Promise<{ code: string; map: null } | null>;
}

/** Returns the plugin. */
export default function tabmux(): TabmuxRollupPlugin {
  return {
    name: 'tabmux',
    async transform(code, id) {
      if (!CLIENT.test(id)) return null;
      if (withUrl(code, '') === null) {
        if (isOurs(id)) this.warn(`${id} ${UNKNOWN}`);
        return null;
      }
      const source = await readWorker(id);
      const file = this.emitFile({ type: 'asset', name: 'tabmux-worker.js', source });
      return { code: withUrl(code, `import.meta.ROLLUP_FILE_URL_${file}`) ?? code, map: null };
    },
  };
}
