/** Nothing that others wrote reaches a terminal as an instruction. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { safeJson, safeLine, safeText } from '../src/safe-text.ts';

const ESC = '\u001b';

it.each([
  [`${ESC}[2J${ESC}]0;title\u0007`, '␛[2J␛]0;title␇'],
  ['a\r\nb\tc\n', 'a\nb\tc\n'],
  ['100 %\rfake', '100 %␍fake'],
  ['\u009b31m red', '\\u{9b}31m red'],
  ['user\u202Etxt.exe', 'user\\u{202e}txt.exe'],
  ['grün 日本 👩‍👩‍👧 ❤️', 'grün 日本 👩‍👩‍👧 ❤️'],
])('safeText(%j)', (text, shown) => {
  expect(safeText(text)).toBe(shown);
});

it('leaves no control character in any text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
      // oxlint-disable-next-line no-control-regex -- control characters are what this is about
      expect(safeText(text)).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
      // oxlint-disable-next-line no-control-regex -- as above
      expect(safeJson(text)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/);
      expect(JSON.parse(safeJson(text))).toBe(text);
      expect(safeLine(text, 20).length).toBeLessThanOrEqual(20);
      expect(safeLine(text)).not.toContain('\n');
    }),
  );
});
