/**
 * The guard over one answer: text in as it is computed, guarded text and finds out. What can't be the beginning of a
 * find is passed on at once; what can is held, `HOLD_MAX` characters at most. Everything is decided by what the model
 * wrote, never by how it came in pieces, so any cut of a text gives the same.
 */
import { hostOf } from './destination.ts';
import { ENCODED_LENGTH_MIN, EncodedRuns } from './encoded.ts';
import { HIDDEN, hiddenShown, inPlace, kindOfHidden } from './hidden.ts';
import { TagRegion, attribute, element } from './html.ts';
import { Lines } from './lines.ts';
import { bracketed } from './markdown.ts';
import { CONTROL, control } from './terminal.ts';
import type { Around, Finding, FindingKind, OutputPolicy, Verdict } from './types.ts';
import { bareHost, entity, escapedColon, scheme } from './urls.ts';

/** Longer than anything that is waited for. */
export const HOLD_MAX = 512;
const BEFORE_KEPT = 128;
const COVERED_MAX = 400;
const AUTHORITY_MAX = 300;
/** Plain addresses that program code may name in one answer. */
const PLAIN_ADDRESSES_MAX = 32;

const NOTHING_BEGINS =
  // oxlint-disable-next-line no-control-regex -- control characters are what this is about
  /[^\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\ufff9-\ufffb\u0000-\u0008\u000b-\u001f\u007f-\u009f:.\]<&\\=]+/uy;
const COVER_ENDS = /[\s)>\]"'`]/;
const AUTHORITY_ENDS = /[\s/?#\\<>"'`|{}^(),;]/;
const HIGH_SURROGATE = /[\ud800-\udbff]$/;

export interface Guarded {
  readonly text: string;
  readonly findings: readonly Finding[];
  /** The policy is `block`, and something was found: nothing more is shown. */
  readonly ended: boolean;
}

/** What a find covers: told, with its host and length, when it is over. */
interface Covered {
  readonly kind: FindingKind;
  readonly host: string | undefined;
  text: string;
  length: number;
}

export class OutputGuard {
  readonly #policy: OutputPolicy;
  #pending = '';
  #before = '';
  readonly #lines = new Lines();
  readonly #tag = new TagRegion();
  readonly #runs = new EncodedRuns();
  #authority: 'no' | 'slashes' | 'host' = 'no';
  #authorityLength = 0;
  #plainAddresses = 0;
  #covered: Covered | undefined;
  #hidden: { count: number; kind: 'hidden' | 'direction' } | undefined;
  #shown = '';
  #findings: Finding[] = [];
  /** By policy `block`: nothing is shown from here on. */
  #blocked = false;

  constructor(policy: OutputPolicy) {
    this.#policy = policy;
  }

  push(text: string): Guarded {
    this.#pending += text;
    return this.#scan(false);
  }

  /** The answer is over: what was held comes out. */
  end(): Guarded {
    return this.#scan(true);
  }

  /** Characters that wait. */
  get held(): number {
    return this.#pending.length;
  }

  #scan(final: boolean): Guarded {
    const text = this.#pending;
    let at = 0;
    // Half of a character waits for the other half.
    const end = final || !HIGH_SURROGATE.test(text) ? text.length : text.length - 1;
    while (at < end && !this.#over) {
      NOTHING_BEGINS.lastIndex = at;
      const plain = NOTHING_BEGINS.exec(text)?.[0].slice(0, end - at) ?? '';
      if (plain !== '') {
        this.#pass(plain);
        at += plain.length;
        continue;
      }
      const around = {
        before: this.#before,
        ahead: text.slice(at, Math.min(end, at + HOLD_MAX)),
        complete: final || end - at >= HOLD_MAX,
      };
      const taken = this.#step(around);
      if (taken === undefined) break;
      at += taken;
    }
    this.#pending = this.#over ? '' : text.slice(at);
    if (final) this.#close();
    const result = { text: this.#shown, findings: this.#findings, ended: this.#over };
    this.#shown = '';
    this.#findings = [];
    return result;
  }

  /** Blocked, and what was found is told. */
  get #over(): boolean {
    return this.#blocked && this.#covered === undefined;
  }

  /** One character that may begin something: how much was taken; undefined: it has to wait. */
  #step(around: Around): number | undefined {
    const { ahead } = around;
    const [character = ''] = ahead;
    if (HIDDEN.test(character)) return this.#hiddenStep(around, character);
    const verdict = this.#verdict(around, ahead[0] ?? '');
    if (verdict === 'more') return undefined;
    if (verdict === undefined) {
      this.#pass(character);
      return character.length;
    }
    const input = ahead.slice(0, verdict.length);
    if (verdict.finding === undefined) {
      this.#plainAddresses += 1;
      this.#pass(input);
      return input.length;
    }
    this.#found(verdict.finding, verdict.host, verdict.covers === true, input.length);
    this.#take(input, verdict.shown);
    if (verdict.authority === true) this.#authority = 'slashes';
    return input.length;
  }

  #verdict(around: Around, character: string): Verdict {
    const lines = this.#lines;
    const { code } = lines;
    switch (character) {
      case ':':
        return scheme(around, { code, allowance: this.#plainAddresses < PLAIN_ADDRESSES_MAX });
      case '.':
        return this.#authority === 'no' ? bareHost(around, code) : dotOfHost(around);
      case ']': {
        const { possible, footnote } = lines.definition;
        return bracketed(around, { image: lines.image, definition: possible, footnote });
      }
      case '<':
        return element(around);
      case '=': {
        const name = this.#tag.attribute(around.before);
        return name === undefined ? undefined : attribute(around, name);
      }
      case '&':
        return entity(around);
      case '\\': {
        const next = around.ahead[1];
        if (next === undefined) return around.complete ? undefined : 'more';
        if (next === ':') return escapedColon(around);
        return next === '.' && this.#authority === 'no' ? bareHost(around, code) : undefined;
      }
      default:
        return CONTROL.test(character) ? control(around) : undefined;
    }
  }

  #hiddenStep(around: Around, character: string): number | undefined {
    const length = this.#hidden === undefined ? inPlace(around) : 0;
    if (length === 'more') return undefined;
    if (length > 0) {
      this.#pass(around.ahead.slice(0, length));
      return length;
    }
    const kind = kindOfHidden(character);
    this.#hidden ??= { count: 0, kind };
    this.#hidden.count += 1;
    if (kind === 'direction') this.#hidden.kind = kind;
    if (this.#policy === 'block') this.#endHidden();
    this.#show(character, '');
    this.#note(character);
    return character.length;
  }

  /** A run of hidden characters is over: it is told, and shown as a count. */
  #endHidden(): void {
    const run = this.#hidden;
    this.#hidden = undefined;
    if (run === undefined) return;
    this.#found(run.kind, '', false, run.count);
    this.#show('', hiddenShown(run.count));
  }

  #pass(text: string): void {
    this.#take(text, text);
  }

  /** `input` is done with; `shown` stands for it. */
  #take(input: string, shown: string): void {
    this.#endHidden();
    if (shown !== input) this.#show(input, shown);
    let from = 0;
    const pass = (end: number): void => {
      const part = input.slice(from, end);
      if (shown === input) this.#show(part, part);
      this.#note(part);
      from = end;
    };
    for (const end of this.#runs.feed(input)) {
      pass(end);
      this.#found('encoded', '', false, ENCODED_LENGTH_MIN);
    }
    pass(input.length);
  }

  #show(input: string, shown: string): void {
    if (!this.#blocked) this.#shown += this.#policy === 'report' ? input : shown;
  }

  #found(kind: FindingKind, host: string | undefined, covers: boolean, length: number): void {
    if (this.#covered !== undefined) return;
    if (this.#policy === 'block') {
      if (this.#blocked) return;
      this.#blocked = true;
    }
    if (covers) this.#covered = { kind, host, text: '', length: 0 };
    else this.#findings.push({ kind, host: host ?? '', length });
  }

  /** Everything that later decisions look back at; of what the model wrote. */
  #note(input: string): void {
    this.#lines.feed(input);
    this.#tag.feed(input);
    this.#before = (this.#before + input).slice(-BEFORE_KEPT);
    if (this.#authority !== 'no') this.#authorityGoesOn(input);
    if (this.#covered !== undefined) this.#cover(this.#covered, input);
  }

  #authorityGoesOn(input: string): void {
    for (const character of input) {
      if (this.#authority === 'slashes') {
        if (/[/\\]/.test(character)) continue;
        this.#authority = 'host';
        this.#authorityLength = 0;
      }
      this.#authorityLength += 1;
      if (AUTHORITY_ENDS.test(character) || this.#authorityLength > AUTHORITY_MAX) {
        this.#authority = 'no';
        return;
      }
    }
  }

  #cover(covered: Covered, input: string): void {
    for (const character of input) {
      // Brackets and blanks at the beginning lead to an address.
      const begun = /[^\s([<"'=\]:]/.test(covered.text);
      if ((begun && COVER_ENDS.test(character)) || covered.length >= COVERED_MAX) {
        this.#tell(covered);
        return;
      }
      covered.text += character;
      covered.length += character.length;
    }
  }

  #tell(covered: Covered): void {
    this.#covered = undefined;
    const address = covered.text.replace(/^[\s([<"'=\]:]+/, '');
    // Behind a scheme that was broken at its colon.
    const from = address.startsWith('/') ? `x:${address}` : address;
    this.#findings.push({
      kind: covered.kind,
      host: covered.host ?? hostOf(from),
      length: covered.length,
    });
  }

  #close(): void {
    this.#endHidden();
    if (this.#covered !== undefined) this.#tell(this.#covered);
  }
}

const HOST_CHARACTER = /[\p{L}\p{N}_%-]/u;

function dotOfHost({ ahead, complete }: Around): Verdict {
  const next = ahead[1];
  if (next === undefined) return complete ? undefined : 'more';
  if (!HOST_CHARACTER.test(next) && !/[\ud800-\udbff]/.test(next)) return undefined;
  return { length: 1, shown: '[.]', finding: 'url', covers: true };
}
