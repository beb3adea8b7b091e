/** Thinking and answer are told apart, wherever the tokens cut the tags. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { opensThinking, ReasoningSplitter } from '../src/api/reasoning.ts';

function split(parts: readonly string[], opened = false): { reasoning: string; content: string } {
  const splitter = new ReasoningSplitter(opened);
  const text = { reasoning: '', content: '' };
  for (const piece of [...parts.flatMap((part) => splitter.push(part)), ...splitter.end()])
    text[piece.kind] += piece.text;
  return text;
}

it('splits once, at the tags that stand first', () => {
  expect(split(['<think>so</think>\n\nYes.'])).toEqual({ reasoning: 'so', content: 'Yes.' });
  expect(split(['so</think>Yes.'], true)).toEqual({ reasoning: 'so', content: 'Yes.' });
  expect(split(['Yes <think>no</think>'])).toEqual({
    reasoning: '',
    content: 'Yes <think>no</think>',
  });
  expect(split(['<think>never ends'])).toEqual({ reasoning: 'never ends', content: '' });
  expect(split(['<thin'])).toEqual({ reasoning: '', content: '<thin' });
  expect(split(['a < b'])).toEqual({ reasoning: '', content: 'a < b' });
});

it('gives the same for every way to cut the text into tokens', () => {
  const texts = [
    '<think>a < b</th> hm</think>\n\nIt is <b> so </think>',
    'No thinking here <',
    '\n<think></think>x',
  ];
  fc.assert(
    fc.property(
      fc.constantFrom(...texts),
      fc.array(fc.nat(60), { maxLength: 20 }),
      (text, cuts) => {
        const at = [
          0,
          ...cuts.map((cut) => Math.min(cut, text.length)).toSorted((a, b) => a - b),
          text.length,
        ];
        const parts = at.slice(1).map((end, i) => text.slice(at[i], end));
        expect(split(parts)).toEqual(split([text]));
      },
    ),
  );
});

it('sees whether the template opened the thinking', () => {
  expect(opensThinking('<|user|>x<|assistant|><think>\n')).toBe(true);
  expect(opensThinking('<|assistant|><think>\n\n</think>\n\n')).toBe(false);
  expect(opensThinking('What is <think>?<|assistant|>')).toBe(false);
  expect(opensThinking('')).toBe(false);
});
