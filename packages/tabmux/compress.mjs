// How scripts are compressed: by build.mjs for the server, and by size.mjs, which measures.

import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

export function gzip(bytes) {
  return gzipSync(bytes, { level: 9 });
}

export function brotli(bytes) {
  return brotliCompressSync(bytes, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: 11,
      [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    },
  });
}
