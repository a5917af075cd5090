// `tabmux/vite`: Vite 7's development server must not bundle the package, for then worker.js is not
// beside client.js any more. Vite 8 needs no plugin, and takes this one as well.

/** What this package needs of the configuration of Vite. */
export interface TabmuxVitePlugin {
  name: string;
  config(): { optimizeDeps: { exclude: string[] } };
}

/** Returns the plugin. */
export default function tabmux(): TabmuxVitePlugin {
  return {
    name: 'tabmux',
    config: () => ({ optimizeDeps: { exclude: ['tabmux'] } }),
  };
}
