// Trusted Types: a page that requires them starts no worker by a text.

/** What is used of them here. What they make of a text is called a text. */
interface ScriptUrls {
  createScriptURL(url: string): string;
}

type Trusting = { trustedTypes?: { createPolicy(name: string, rules: ScriptUrls): ScriptUrls } };

let policy: ScriptUrls | undefined;

/**
 * The address of a script as this page takes it: another value than `script` where it requires
 * Trusted Types. Throws where it requires them and allows no policy of the name `tabmux`.
 */
export function addressOf(script: string): string {
  if (!isDistrustful()) return script;
  try {
    policy ??= (globalThis as Trusting).trustedTypes?.createPolicy('tabmux',
      { createScriptURL: (url) => url });
  } catch {
    throw new Error("tabmux: this page requires Trusted Types: add 'tabmux' to trusted-types in " +
      "its Content-Security-Policy, and 'allow-duplicates' if it has two copies of this library.");
  }
  return policy?.createScriptURL(script) ?? script;
}

/** Whether a text is refused for the address of a script. Nothing is loaded to find out. */
function isDistrustful(): boolean {
  try {
    globalThis.document?.createElement('script').setAttribute('src', 'x');
    return false;
  } catch {
    return true;
  }
}
