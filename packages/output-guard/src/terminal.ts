/** Control characters: a terminal would move, retitle, hide or link (OSC 8) by them. They are shown, as pictures. */
import type { Around, Verdict } from './types.ts';

// oxlint-disable-next-line no-control-regex -- control characters are what this is about
export const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/;
const PICTURES = 0x2400;

export function control({ ahead, complete }: Around): Verdict {
  const [character = '', next] = ahead;
  if (character === '\r') {
    // The end of a line as Windows writes it.
    if (next === undefined && !complete) return 'more';
    if (next === '\n') return undefined;
  }
  const code = character.charCodeAt(0);
  const shown =
    code < 0x20
      ? String.fromCharCode(PICTURES + code)
      : code === 0x7f
        ? '\u2421'
        : `{U+00${code.toString(16).toUpperCase()}}`;
  return { length: 1, shown, finding: 'terminal' };
}
