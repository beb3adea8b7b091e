// The answer's text: stop strings never leak, characters never break. A dumb twin looks at the whole text at once.
import fc from 'fast-check';
import { DEFAULT_SAMPLING } from '@minikeep/protocol';
import { describe, expect, it } from 'vitest';
import { Answer } from '../src/stage/answer.ts';
import { StopStrings } from '../src/stage/stop-strings.ts';

const SEED = Number(process.env['MINIKEEP_SEED'] ?? Date.now() % 2 ** 31);
const RUNS = process.env['MINIKEEP_LONG'] === '1' ? 100_000 : 3_000;

/** A vocabulary of given pieces; token 0 ends the answer. */
const vocabulary = (pieces: readonly Uint8Array[]) => ({
  isEog: (token: number) => token === 0,
  piece: (token: number) => pieces[token] ?? new Uint8Array(),
});
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const params = { ...DEFAULT_SAMPLING };

describe('stop strings', () => {
  it(`cut where the earliest one begins, and let nothing out that may become one (seed ${SEED})`, () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 6 });
    fc.assert(
      fc.property(
        fc.array(letters, { maxLength: 12 }),
        fc.array(
          letters.filter((s) => s !== ''),
          { maxLength: 3 },
        ),
        (pieces, stops) => {
          const whole = pieces.join('');
          // The twin: which prefix of the text is the first that holds a stop string, and where that one begins.
          let end = -1;
          for (let n = 1; n <= whole.length && end < 0; n++) {
            const found = stops.map((s) => whole.slice(0, n).indexOf(s)).filter((at) => at >= 0);
            if (found.length > 0) end = Math.min(...found);
          }
          const matcher = new StopStrings(stops);
          let shown = '';
          let stopped = false;
          for (const piece of pieces) {
            const result = matcher.push(piece);
            shown += result.text;
            for (const stop of stops) expect(shown.includes(stop)).toBe(false);
            stopped = result.stopped;
            if (stopped) break;
          }
          if (!stopped) shown += matcher.flush();
          expect(stopped).toBe(end >= 0);
          // A piece may bring two stop strings at once: then the one that begins first counts.
          if (stopped) expect(end).toBeGreaterThanOrEqual(shown.length);
          if (stopped) expect(whole.startsWith(shown)).toBe(true);
          else expect(shown).toBe(whole);
        },
      ),
      { numRuns: RUNS, seed: SEED },
    );
  });

  it('hold back no more than they have to', () => {
    const matcher = new StopStrings(['</end>']);
    expect(matcher.push('a < b')).toEqual({ text: 'a < b', stopped: false });
    expect(matcher.push(' <')).toEqual({ text: ' ', stopped: false });
    expect(matcher.push('/en')).toEqual({ text: '', stopped: false });
    expect(matcher.push('t>')).toEqual({ text: '</ent>', stopped: false });
    expect(matcher.push('x</e')).toEqual({ text: 'x', stopped: false });
    expect(matcher.push('nd>y')).toEqual({ text: '', stopped: true });
  });

  it('span tokens', () => {
    const pieces = ['', 'Hello', ' wor', 'ld', '\nUs', 'er', ':'].map(bytes);
    const answer = new Answer(vocabulary(pieces), { ...params, stop: ['\nUser:'] });
    const texts = [1, 2, 3, 4, 5, 6].map((token) => answer.push(token));
    expect(texts.map((t) => t.text)).toEqual(['Hello', ' wor', 'ld', '', '', '']);
    expect(texts.at(-1)?.finish).toBe('stop');
    expect(answer.flush()).toBe('');
  });
});

describe('characters', () => {
  it('never break, wherever tokens cut them', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 20 }), fc.nat(), (text, cut) => {
        const all = bytes(text);
        const pieces = [new Uint8Array()];
        for (let at = 0; at < all.length; at += 1 + (cut % 3)) {
          pieces.push(all.slice(at, at + 1 + (cut % 3)));
        }
        const answer = new Answer(vocabulary(pieces), params);
        let shown = '';
        for (let token = 1; token < pieces.length; token++) {
          const { text: part } = answer.push(token);
          expect(part.includes('\ufffd') && !text.includes('\ufffd')).toBe(false);
          shown += part;
        }
        expect(shown + answer.flush()).toBe(
          new TextDecoder('utf-8', { ignoreBOM: true }).decode(all),
        );
      }),
      { numRuns: RUNS / 10, seed: SEED },
    );
  });

  it('that stay unfinished become U+FFFD at the end, and only there', () => {
    const answer = new Answer(vocabulary([new Uint8Array(), Uint8Array.of(0xf0, 0x9f)]), params);
    expect(answer.push(1)).toEqual({ text: '', finish: 'none' });
    expect(answer.push(0)).toEqual({ text: '\ufffd', finish: 'eog' });
  });
});

describe('the end of an answer', () => {
  it('an end-of-generation token lets out what was held back', () => {
    const answer = new Answer(vocabulary([new Uint8Array(), bytes('a<')]), {
      ...params,
      stop: ['<b>'],
    });
    expect(answer.push(1).text).toBe('a');
    expect(answer.push(0)).toEqual({ text: '<', finish: 'eog' });
  });

  it('can be ignored', () => {
    const answer = new Answer(vocabulary([bytes(''), bytes('a')]), { ...params, ignore_eog: true });
    expect(answer.push(0)).toEqual({ text: '', finish: 'none' });
    expect(answer.push(1)).toEqual({ text: 'a', finish: 'none' });
  });

  it('text that no frame could take is an error of this model, at once or when it was held back', () => {
    const tooLong = { code: 'engine.text_too_long', next: expect.stringContaining('vocabulary') };
    const pieces = [new Uint8Array(), bytes('x'.repeat(65_536)), bytes('x'.repeat(65_537))];
    const answer = new Answer(vocabulary(pieces), params);
    expect(answer.push(1).text).toHaveLength(65_536);
    expect(() => answer.push(2)).toThrow(expect.objectContaining(tooLong));
    // Each broken byte becomes a character of three.
    const broken = new Answer(vocabulary([new Uint8Array(), new Uint8Array(30_000).fill(0xff)]), {
      ...params,
      stop: ['never'],
    });
    expect(() => broken.push(1)).toThrow(expect.objectContaining(tooLong));
  });
});
