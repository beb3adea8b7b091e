/** Text written by the attacker, made harmless for logs and terminals: printable ASCII, bounded. */
import { TEXT_CHARACTERS_MAX } from './limits.ts';

const PRINTABLE = (code: number): boolean =>
  code >= 0x20 && code < 0x7f && code !== 0x22 && code !== 0x5c;

/**
 * Bytes → printable ASCII without quotes and backslashes of its own; everything else as \xNN, so that two different
 * inputs never look the same. Longer than `max` characters: cut, with the number of bytes left out at the end.
 */
export function escapeBytes(bytes: Uint8Array, max: number = TEXT_CHARACTERS_MAX): string {
  const tail = (left: number): string => `…+${left}`.replace('…', '...');
  let text = '';
  for (let i = 0; i < bytes.length; i++) {
    const code = bytes[i] ?? 0;
    const piece = PRINTABLE(code)
      ? String.fromCharCode(code)
      : `\\x${code.toString(16).padStart(2, '0')}`;
    const room = max - tail(bytes.length).length;
    if (
      text.length + piece.length > max ||
      (text.length + piece.length > room && i < bytes.length - 1)
    )
      return text + tail(bytes.length - i);
    text += piece;
  }
  return text;
}

/** The same of the end of something long: its last `max` characters, since errors say last what matters. */
export const escapeTail = (bytes: Uint8Array, max: number): string =>
  escapeBytes(bytes, bytes.length * 4 + 1).slice(-max);

export const escapeText = (text: string, max?: number): string =>
  escapeBytes(Buffer.from(text, 'utf8'), max);
