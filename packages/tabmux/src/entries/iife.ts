// `tabmux.iife.js`: the page library as a classic script, whose global is `tabmux`.

export * from '../index.js';
