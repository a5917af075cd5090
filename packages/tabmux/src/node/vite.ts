// `tabmux/vite`: a plugin for the development server of Vite 7. It must not bundle the package,
// because worker.js would then no longer be beside client.js. Vite 8 needs no plugin, and accepts
// this one.

/** The part of Vite's configuration that this plugin sets. */
export interface TabmuxVitePlugin {
  name: string;
  config(): { optimizeDeps: { exclude: string[] } };
}

/** Returns the plugin for Vite. */
export default function tabmux(): TabmuxVitePlugin {
  return {
    name: 'tabmux',
    config: () => ({ optimizeDeps: { exclude: ['tabmux'] } }),
  };
}
