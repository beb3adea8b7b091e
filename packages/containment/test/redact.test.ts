// What leaves an agent's memory of an attempt: where to, and never what was said.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { plainOperation, redact } from '../src/warden/redact.ts';

const KEY = Buffer.alloc(32, 7);
const kept = (kind: string, target: string): string => redact(kind, target, KEY).target;

describe('a target', () => {
  it.each([
    ['network', 'inet 192.0.2.7:443', 'inet 192.0.2.7:443'],
    ['network', 'inet6 [2001:db8::7]:443', 'inet6 [2001:db8::7]:443'],
    ['network', 'inet stream', 'inet stream'],
    ['network', 'remote:*:443', 'remote:*:443'],
    ['ipc', 'unix /run/docker.sock', 'unix /run/…'],
    ['ipc', 'unix @secret', 'unix @…'],
    ['dns', 'A the.prompt.evil.example', 'A ….evil.example'],
    ['dns', 'A evil.example', 'A evil.example'],
    ['dns', `TXT x.${'a'.repeat(25)}.example`, 'TXT ….….example'],
    ['dns', 'A x.evil\\x20.example', 'A ….….example'],
    ['dns', 'inet 192.0.2.53:53', 'inet 192.0.2.53:53'],
    ['write', '/home/ada/the prompt.txt', '/home/…'],
    ['write', '/the prompt', '/…'],
    ['read', '/etc', '/etc'],
    ['write', '/tmp/a -> /the/prompt', '/tmp/… -> /…'],
    ['exec', 'the prompt', '…'],
    ['memory', '0x7468652070726f6d 0x7074', '2 numbers'],
    ['signal', 'process 17 signal 9', 'process 17 signal 9'],
    ['crash', 'the prompt', '…'],
    ['network', '', ''],
  ])('%s %s', (kind, target, safe) => expect(kept(kind, target)).toBe(safe));

  it('is told by length and a keyed digest', () => {
    const one = redact('write', '/home/ada/x', KEY);
    expect([one.length, one.digest.length]).toEqual([11, 16]);
    expect(redact('write', '/home/ada/x', KEY).digest).toBe(one.digest);
    expect(redact('write', '/home/ada/y', KEY).digest).not.toBe(one.digest);
    expect(redact('write', '/home/ada/x', Buffer.alloc(32, 8)).digest).not.toBe(one.digest);
  });

  it('of whatever form carries no marker that it contained', () => {
    const marker = 'sesame-0123456789-sesame-abcdef';
    const around = fc.string({ unit: 'grapheme', maxLength: 40 });
    const forms = fc.oneof(
      fc.tuple(around, around).map(([a, b]) => `${a}${marker}${b}`),
      around.map((a) => `/etc/${a}${marker}`),
      around.map((a) => `/${marker}/${a}`),
      around.map((a) => `unix @${a}${marker}`),
      fc.constantFrom(`A ${marker}.evil.example`, `A evil.${marker}`, `inet ${marker}:443`),
      fc.constant(`/tmp/x -> ${marker}`),
    );
    const kinds = fc.constantFrom('network', 'dns', 'write', 'exec', 'memory', 'crash', 'other');
    fc.assert(
      fc.property(kinds, forms, (kind, target) => {
        expect(kept(kind, target)).not.toContain(marker);
        expect(kept(kind, target).length).toBeLessThan(130);
      }),
    );
  });

  it('never says an operation that is no word', () => {
    expect(
      ['connect', 'file-write-create', 'process-exec*', 'the prompt'].map(plainOperation),
    ).toEqual(['connect', 'file-write-create', 'process-exec*', 'other']);
  });
});
