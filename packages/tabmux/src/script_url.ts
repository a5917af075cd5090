/**
 * The address of a classic script, which has no `import.meta.url`; build.mjs puts it in. A worker
 * that imports it has its own.
 */
export const scriptUrl =
  (globalThis.document?.currentScript as HTMLScriptElement | undefined)?.src ?? location.href;
