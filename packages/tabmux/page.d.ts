/** page-library.mjs makes this module: the page library as a function of its globals. */
declare module 'tabmux:page' {
  export default function makePage(globals: object): typeof import('./src/index.js');
}
