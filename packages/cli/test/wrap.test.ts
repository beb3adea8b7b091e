/** Lines on a person's terminal break between words, and nothing of the text is lost. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WordWrap, wrapped } from '../src/wrap.ts';

function wrap(pieces: readonly string[], columns: number): string {
  const words = new WordWrap();
  return pieces.map((piece) => words.push(piece, columns)).join('') + words.end(columns);
}

describe('a text that comes in pieces', () => {
  it('breaks between words, wherever the pieces end', () => {
    expect(wrap(['A st', 'age is a', ' slice', ' that is served.'], 12)).toBe(
      'A stage is a\nslice that\nis served.',
    );
    expect(wrap(['one two\n', '  three four'], 9)).toBe('one two\n  three\nfour');
  });

  it('gives out a word as soon as it is over', () => {
    const words = new WordWrap();
    expect(words.push('Hello wor', 80)).toBe('Hello');
    expect(words.push('ld ', 80)).toBe(' world');
    expect(words.end(80)).toBe(' ');
  });

  it('leaves a word alone that is longer than a line', () => {
    expect(wrap(['see ', 'x'.repeat(30), ' there'], 10)).toBe(`see\n${'x'.repeat(30)}\nthere`);
  });

  it('holds the same words in the same order, in lines that fit', () => {
    const piece = fc.string({ unit: fc.constantFrom('a', 'bc', ' ', '\n', 'é') });
    fc.assert(
      fc.property(fc.array(piece), fc.integer({ min: 3, max: 30 }), (pieces, columns) => {
        const out = wrap(pieces, columns);
        expect(out.replaceAll(/\s+/g, ' ')).toBe(pieces.join('').replaceAll(/\s+/g, ' '));
        for (const line of out.split('\n'))
          if (line.trim().includes(' ')) expect(line.trimEnd().length).toBeLessThanOrEqual(columns);
      }),
    );
  });
});

it('breaks a paragraph, and says when it leaves something out', () => {
  expect(wrapped('a line that is long', 8, Infinity)).toEqual(['a line', 'that is', 'long']);
  expect(wrapped('a line that is long', 8, 2)).toEqual(['a line', 'that …']);
});
