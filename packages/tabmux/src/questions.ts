// What `tabmux/debug` and the workers of an origin say to each other.

/** All that one hub was told, for `cargo run -p tabmux-sim -- replay`. */
export interface Trace {
  /** The hub: 16 hexadecimal digits. */
  readonly hub: string;
  /** The trace. It holds what users sent and received. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** It was longer than it may be: this is its beginning. */
  readonly full: boolean;
}

/** The name of the BroadcastChannel on which workers are asked. */
export const CHANNEL = 'tabmux:debug';

/** What they are asked for. */
export type Question = 'traces' | 'ignored';
