/** The address of a classic script, which has no `import.meta.url`; build.mjs puts it in. */
export const scriptUrl = (document.currentScript as HTMLScriptElement).src;
