/**
 * Names the build: 8 hexadecimal digits, equal in client.js, tiers.js and worker.js, and in the
 * names of the modules.
 */
declare const __BUILD__: string;
