/** The version in package.json; build.mjs puts it in. */
declare const __VERSION__: string;

/** Names the worker.js this client.js was built with; build.mjs puts it in, in client.js only. */
declare const __WORKER_VERSION__: string;

/** Names the tiers.js this client.js was built with; build.mjs puts it in, in both of them. */
declare const __TIERS_VERSION__: string;

/** build.mjs inlines the module: importing it gives its bytes. */
declare module '*.wasm' {
  const bytes: Uint8Array<ArrayBuffer>;
  export default bytes;
}
