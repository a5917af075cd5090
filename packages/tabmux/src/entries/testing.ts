// `tabmux/testing`: a browser and a server in memory, for unit tests.

export { testBed } from '../testing/bed.js';
export type { OtherTab, TestBed, TestTab } from '../testing/bed.js';
export type { ServerSocket, TestServer } from '../testing/server.js';
