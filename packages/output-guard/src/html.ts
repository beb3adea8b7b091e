/**
 * HTML in an answer, as a renderer that lets it through would read it. Elements whose content acts are broken at their
 * `<`; of any other the attributes that hold an address, a style or a program, at their `=`, when the address leads
 * elsewhere. What is left (`<b>`, `List<String>`, `a < b`, `<img src="plot.png">`) is unchanged.
 */
import { leadsElsewhere } from './destination.ts';
import type { Around, Verdict } from './types.ts';

const ACTING = ['iframe', 'noembed', 'noframes', 'noscript', 'plaintext', 'script', 'style', 'xmp'];
/** Their blocks go on over blank lines, and so would an attribute. */
const OVER_BLANK_LINES = ['pre', 'textarea'];
const LOOKED_AT = [...ACTING, ...OVER_BLANK_LINES];
const NAME = /^<([a-z]+)/i;

/** At a `<`. */
export function element({ ahead, complete }: Around): Verdict {
  if (ahead.length === 1) return complete ? undefined : 'more';
  const name = NAME.exec(ahead)?.[1]?.toLowerCase();
  if (name === undefined) return undefined;
  const ended = ahead.length > name.length + 1 || complete;
  if (!ended && LOOKED_AT.some((one) => one.startsWith(name))) return 'more';
  // Anything else belongs to the name: `<script-field>`, `<style:x>`.
  const next = ahead[name.length + 1] ?? '';
  if (!LOOKED_AT.includes(name) || !/^[\s/>]?$/.test(next)) return undefined;
  if (OVER_BLANK_LINES.includes(name) && (next === '>' || next === '')) return undefined;
  return { length: 1, shown: '[<]', finding: 'html', covers: true };
}

const ADDRESS = new Set(
  'action archive background by cite classid code codebase data dynsrc formaction from href icon longdesc lowsrc manifest object poster profile src to usemap xlink:href'.split(
    ' ',
  ),
);
/** Several addresses, or a style: an address may stand anywhere in it. */
const MANY = new Set('content imagesrcset ping srcset style values'.split(' '));
const PROGRAM = /^(?:on[a-z]{3,}|srcdoc|http-equiv)$/;
/** Words that are no handler of events. */
const WORDS: ReadonlySet<string> = new Set(
  'ongoing online onset onward onwards ontology'.split(' '),
);
const ANYWHERE = /\/\/|[a-z][a-z0-9+.-]+:[^\s;]*[/,]|[\\&@]|url|src\s*\(|image/i;
const VALUE_LENGTH_MAX = 300;

/** At the `=` behind an attribute's name. */
export function attribute({ ahead, complete }: Around, name: string): Verdict {
  const lower = name.toLowerCase();
  const broken: Verdict = { length: 1, shown: '[=]', finding: 'html', covers: true };
  if (PROGRAM.test(lower)) return WORDS.has(lower) ? undefined : broken;
  const many = MANY.has(lower);
  if (!many && !ADDRESS.has(lower)) return undefined;
  const lead = /^=\s*/.exec(ahead)?.[0].length ?? 1;
  const quote = /["']/.exec(ahead[lead] ?? '')?.[0];
  const from = lead + (quote === undefined ? 0 : 1);
  const ends = quote === undefined ? /[\s>]/g : quote === '"' ? /"/g : /'/g;
  ends.lastIndex = from;
  const end = ends.exec(ahead)?.index;
  const value = ahead.slice(from, end);
  if (many ? ANYWHERE.test(value) : leadsElsewhere(value)) return broken;
  if (end !== undefined) return undefined;
  if (!complete && value.length <= VALUE_LENGTH_MAX) return 'more';
  return value.length > VALUE_LENGTH_MAX ? broken : undefined;
}

const REGION_LENGTH_MAX = 4_000;
const ATTRIBUTE_BEFORE = /(?:^|[^\w.:-])([a-z][\w:-]{1,30})\s{0,60}$/i;

/**
 * Where an attribute may stand: from `<` and a letter to a `>`, or, once there were quotes, which renderers pair
 * differently, to a blank line, where every markdown renderer begins anew.
 */
export class TagRegion {
  #inside = false;
  #quotes = false;
  #length = 0;
  #last = '';

  /** The attribute that an `=` behind `before` gives a value. */
  attribute(before: string): string | undefined {
    return this.#inside ? ATTRIBUTE_BEFORE.exec(before)?.[1] : undefined;
  }

  feed(text: string): void {
    if (!this.#inside && this.#last !== '<' && !text.includes('<'))
      this.#last = text.at(-1) ?? this.#last;
    else for (const character of text) this.#one(character);
  }

  #one(character: string): void {
    const before = this.#last;
    this.#last = character;
    if (before === '<' && /[a-z]/i.test(character)) {
      if (!this.#inside) this.#quotes = false;
      this.#inside = true;
      this.#length = 0;
      return;
    }
    if (!this.#inside) return;
    this.#length += 1;
    if (character === '"' || character === "'") this.#quotes = true;
    if (
      this.#length > REGION_LENGTH_MAX ||
      (character === '>' && !this.#quotes) ||
      (character === '\n' && before === '\n')
    )
      this.#inside = false;
  }
}
