// The same in a dedicated worker that is a module.

import './in-worker.js';
import * as library from '/tabmux/client.js';

self.onmessage = ({ data }) => globalThis.use(library, data, (news) => self.postMessage(news));
