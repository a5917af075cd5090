// A document for the tests of hooks, beside the browser that rig.ts plays.

import { JSDOM } from 'jsdom';

import { browser, install } from './rig.js';

/** Makes this process a page with a document, and returns an element of it. */
export function installPage(): HTMLElement {
  install();
  const { window } = new JSDOM('<div id="app"></div>', { url: 'http://page.test/' });
  const { locks } = navigator;
  const globals = {
    window,
    document: window.document,
    navigator: { locks, userAgent: 'test' },
    // What renders asks what it renders into.
    ...Object.fromEntries(['Element', 'HTMLElement', 'SVGElement', 'Node', 'Text', 'Comment',
      'MathMLElement', 'ShadowRoot', 'HTMLMediaElement', 'HTMLIFrameElement'].map((name) =>
      [name, (window as unknown as Record<string, unknown>)[name]])),
    IS_REACT_ACT_ENVIRONMENT: true,
  };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  return window.document.getElementById('app') as HTMLElement;
}

/** The locks that this page waits for, of hubs that it knows: it has left all others. */
export const hubsWaitedFor = (): string[] =>
  browser.waiting.map(({ name }) => name).filter((name) => name.startsWith('tabmux:hub:'));
