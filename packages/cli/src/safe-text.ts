/**
 * Text that others wrote (a model's answer, a file's metadata, an attacker's path) may hold escape sequences that
 * rewrite the screen, set the title or type commands. Before it reaches a terminal, every such character is shown
 * instead of sent.
 */

/**
 * C0 but newline and tab, DEL, C1; characters that reorder or hide text (bidi controls, line separators, tags).
 * Joiners and variation selectors stay: emoji and many scripts need them.
 */
const DANGEROUS =
  // oxlint-disable-next-line no-control-regex -- control characters are what this is about
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|\p{Surrogate}/gu;

const CONTROL_PICTURES = 0x2400;
const DELETE_PICTURE = '\u2421';

function picture(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x20) return String.fromCodePoint(CONTROL_PICTURES + code);
  if (code === 0x7f) return DELETE_PICTURE;
  return `\\u{${code.toString(16)}}`;
}

/** The text with nothing in it that a terminal acts on, but newlines and tabs. */
export function safeText(text: string): string {
  return text.replaceAll('\r\n', '\n').replace(DANGEROUS, picture);
}

/** The same on one line of at most `max` characters: for names, paths and messages. */
export function safeLine(text: string, max = 300): string {
  const line = safeText(text).replaceAll('\n', '\u240a').replaceAll('\t', ' ');
  return line.length > max ? `${line.slice(0, max - 1).replace(/\p{Surrogate}$/u, '')}…` : line;
}

/** JSON in one line with every character above escaped, so that it is safe to look at in a terminal too. */
export function safeJson(value: unknown): string {
  return JSON.stringify(value).replace(DANGEROUS, (character) =>
    [...Array(character.length).keys()]
      .map((i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`)
      .join(''),
  );
}
