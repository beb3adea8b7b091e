/**
 * Markdown's inline links and images, `](…)`, and definitions, `]: …`. They are broken behind the bracket, so that
 * their text is passed on before it is known whether a link follows: `[text][(]https[://]…)`. A destination inside the
 * reader's own page is left alone; an image's never, for it is fetched by whoever looks.
 */
import { leadsElsewhere } from './destination.ts';
import type { Around, Verdict } from './types.ts';

export interface Brackets {
  /** The bracket that closes here was opened by `![`. */
  readonly image: boolean;
  /** A definition may stand here: nothing but marks of lists and quotes is before its bracket. */
  readonly definition: boolean;
  /** Its label begins with ^. */
  readonly footnote: boolean;
}

/** Blanks, and at most one line's end, may stand before a destination. */
const BLANKS_MAX = 32;
const LEAD = /^\][(:]\s*/;
/** As it is, and as this guard shows it. */
const PLAIN = /^[a-z][a-z0-9+.-]*\[?:\/\//i;
const PLAIN_BEGUN = /^[a-z][a-z0-9+.-]*\[?:?\/?$/i;

export function bracketed(around: Around, brackets: Brackets): Verdict {
  const { ahead, complete } = around;
  const mark = ahead[1];
  if (mark === undefined) return complete ? undefined : 'more';
  if (mark !== '(' && !(mark === ':' && brackets.definition)) return undefined;
  const lead = LEAD.exec(ahead)?.[0].length ?? 2;
  if (lead === ahead.length && !complete && lead <= BLANKS_MAX) return 'more';
  const end = destinationEnd(ahead, lead, mark === '(');
  // What is too long to be waited for leads elsewhere: nobody writes such a path.
  const open = end === ahead.length;
  const address = ahead.slice(lead, end).replace(/^</, '');
  if (open && !complete && lead <= BLANKS_MAX && !leadsElsewhere(address)) return 'more';
  if (brackets.footnote && open && !complete && PLAIN_BEGUN.test(address)) return 'more';
  if (address === '' && !open) return undefined;
  // A footnote is text; its address is broken by itself.
  if (mark === ':' && brackets.footnote && PLAIN.test(address)) return undefined;
  const image = mark === '(' && brackets.image;
  if (!image && !leadsElsewhere(address) && lead <= BLANKS_MAX) return undefined;
  return {
    length: 2,
    shown: `][${mark}]`,
    finding: image ? 'image' : 'link',
    covers: true,
  };
}

/** Where a destination ends: `<…>` at its bracket, another at a blank or, in parentheses, at the closing one. */
function destinationEnd(text: string, from: number, inline: boolean): number {
  const ends = text[from] === '<' ? /[>\n]/g : inline ? /[\s)]/g : /\s/g;
  ends.lastIndex = from;
  return ends.exec(text)?.index ?? text.length;
}
