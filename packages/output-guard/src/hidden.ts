/**
 * Characters that nobody sees: a prompt fits into them, and whoever copies the text carries it on. Those that change
 * the direction make a text read otherwise than it is. Joiners and selectors that emoji and scripts need stay: at most
 * one, in the place where it has its meaning.
 */
import type { Around } from './types.ts';

/** Beside Unicode's list: interlinear annotations. */
export const HIDDEN = /[\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\ufff9-\ufffb]/u;
const DIRECTION = /[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]/u;

const ZWNJ = '\u200c';
const ZWJ = '\u200d';
const JOINING =
  /[\p{Script_Extensions=Arabic}\p{Script_Extensions=Syriac}\p{Script=Mongolian}\p{Script=Nko}\p{Script_Extensions=Devanagari}\p{Script_Extensions=Bengali}\p{Script_Extensions=Gurmukhi}\p{Script_Extensions=Gujarati}\p{Script_Extensions=Oriya}\p{Script_Extensions=Tamil}\p{Script_Extensions=Telugu}\p{Script_Extensions=Kannada}\p{Script_Extensions=Malayalam}\p{Script_Extensions=Sinhala}\p{Script=Khmer}\p{Script=Myanmar}\p{Script=Tibetan}]/u;
const LETTER_OR_MARK = /[\p{L}\p{M}]/u;
const PICTURE = /\p{Extended_Pictographic}/u;
const PICTURE_PART = /[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f]/u;
const STYLED = /[\p{Emoji}\p{So}\p{Sm}\u2190-\u2bff]/u;
const HAN = /\p{Script=Han}/u;
const MATHEMATICAL = /\p{Sm}/u;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/u;
/** How far from such a letter a mark of direction may stand. */
const NEAR = 8;
/** England, Scotland, Wales: a black flag, letters as tags, and the tag that ends it. */
const FLAGS = ['gbeng', 'gbsct', 'gbwls'].map(
  (name) =>
    Array.from(name, (c) => String.fromCodePoint(0xe0000 + c.charCodeAt(0))).join('') + '\u{e007f}',
);
const BLACK_FLAG = '\u{1f3f4}';

export const kindOfHidden = (character: string): 'hidden' | 'direction' =>
  DIRECTION.test(character) ? 'direction' : 'hidden';

const lastOf = (text: string): string => Array.from(text.slice(-2)).at(-1) ?? '';

/** How many characters of `ahead`, which begins with a hidden one, are in their place; 0: it is not. */
export function inPlace({ before, ahead, complete }: Around): number | 'more' {
  const [character = '', next] = ahead;
  const previous = lastOf(before);
  if (previous === BLACK_FLAG && ahead.startsWith('\u{e0067}')) {
    const flag = FLAGS.find((one) => ahead.startsWith(one));
    if (flag !== undefined) return flag.length;
    if (!complete && FLAGS.some((one) => one.startsWith(ahead))) return 'more';
  }
  if (previous === '' || (HIDDEN.test(previous) && previous !== '\ufe0f')) return 0;
  const code = character.codePointAt(0) ?? 0;
  const here = (fits: boolean): number => (fits ? character.length : 0);
  if (code === 0xfe0f || code === 0xfe0e) return here(STYLED.test(previous));
  if (code >= 0xfe00 && code <= 0xfe02)
    return here(HAN.test(previous) || MATHEMATICAL.test(previous));
  if (code >= 0xe0100 && code <= 0xe0107) return here(HAN.test(previous));
  if (code >= 0x180b && code <= 0x180f) return here(/\p{Script=Mongolian}/u.test(previous));
  // What follows decides.
  if (next === undefined && !complete) return 'more';
  const after = next ?? '';
  if (character === ZWJ && PICTURE_PART.test(previous)) return here(PICTURE.test(after));
  const joins = JOINING.test(previous) && LETTER_OR_MARK.test(previous);
  if (character === ZWJ) return here(joins && !HIDDEN.test(after));
  if (character === ZWNJ) return here(joins && JOINING.test(after));
  if (code === 0xad) return here(/\p{L}/u.test(previous) && /\p{L}/u.test(after));
  if (code === 0x200e || code === 0x200f || code === 0x61c)
    return here(
      !HIDDEN.test(after) && (RIGHT_TO_LEFT.test(before.slice(-NEAR)) || RIGHT_TO_LEFT.test(after)),
    );
  return 0;
}

/** What is shown in the place of a run of hidden characters; no mark of markdown, nothing that ends an address. */
export const hiddenShown = (count: number): string => `{hidden×${count}}`;
