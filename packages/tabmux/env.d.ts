/** Names the build: 8 hexadecimal digits, equal in client.js, tiers.js and worker.js. */
declare const __BUILD__: string;

/** build.mjs inlines the module: importing it gives its bytes. */
declare module '*.wasm' {
  const bytes: Uint8Array<ArrayBuffer>;
  export default bytes;
}
