// What `send` takes.

/** What kind of object it is, also when it is of an iframe, whose classes are others. */
export const tagOf = (data: unknown): string => ({}).toString.call(data);

/** A copy of the bytes of a buffer or a view, empty if they were transferred; nothing else. */
export function bytesOf(data: Partial<ArrayBufferView> & BufferSource): Uint8Array | undefined {
  if (!/ ArrayBuffer]$/.test(tagOf(data)) && !ArrayBuffer.isView(data)) return;
  const buffer = (data as DataView).buffer ?? data;
  return buffer.byteLength
    ? new Uint8Array(buffer, (data as DataView).byteOffset, data.byteLength).slice()
    : new Uint8Array();
}
