// What reads hostile bytes: it never throws, never reads beyond what was copied, and its text is always harmless.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { X64 } from '../src/linux/arch.ts';
import { describeSend } from '../src/linux/decoy.ts';
import { describe as describeCall } from '../src/linux/describe.ts';
import { FileTable, remoteFileSystem } from '../src/linux/files.ts';
import { parseIdMap, uidCandidates } from '../src/linux/identity.ts';
import { Judge } from '../src/linux/judge.ts';
import { readLoaderCache } from '../src/linux/libraries.ts';
import type { ReadableMemory } from '../src/linux/memory.ts';
import { readString } from '../src/linux/memory.ts';
import type { Phase } from '../src/linux/rules.ts';
import { decodeAddress, decodeDnsQuestion, formatIpv6, socketName } from '../src/linux/sockaddr.ts';
import { lineReader } from '../src/warden/control.ts';
import { escapeBytes, escapeText } from '../src/warden/escape.ts';
import { dnsQuestion, inet } from './hostile/attacked.ts';

const RUNS = process.env['MINIKEEP_LONG'] === '1' ? 200_000 : 5_000;
const HARMLESS = /^[\x20-\x7e]*$/;
const bytes = (max: number) => fc.uint8Array({ maxLength: max });
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

describe('escape', () => {
  it('is printable ASCII of bounded length', () => {
    fc.assert(
      fc.property(bytes(2_000), fc.integer({ min: 20, max: 400 }), (b, max) => {
        const text = escapeBytes(b, max);
        expect(text).toMatch(HARMLESS);
        expect(text.length).toBeLessThanOrEqual(max);
        expect(text).not.toContain('"');
      }),
      { numRuns: RUNS },
    );
  });

  it('keeps what fits, and different bytes apart', () => {
    expect(escapeText('/plain/path')).toBe('/plain/path');
    expect(escapeText('a\nb"\\ü')).toBe('a\\x0ab\\x22\\x5c\\xc3\\xbc');
    fc.assert(
      fc.property(bytes(40), bytes(40), (a, b) => {
        const same = Buffer.from(a).equals(Buffer.from(b));
        expect(escapeBytes(a) === escapeBytes(b)).toBe(same);
      }),
      { numRuns: RUNS },
    );
  });
});

describe('addresses', () => {
  it.each([
    ['02 00 01bb c0000201 0000000000000000', 'inet 192.0.2.1:443'],
    ['0a00 0050 00000000 20010db8000000000000000000000001 00000000', 'inet6 [2001:db8::1]:80'],
    ['0100 2f72756e2f782e736f636b00', 'unix /run/x.sock'],
    ['0100 0061', 'unix @a'],
    ['0100', 'unix unnamed'],
    ['2800 0000 d2040000 02000000', 'vsock 2:1234'],
    ['1000 0000 00000000 00000000', 'netlink'],
    ['0200 01', 'inet (short)'],
    ['02', 'unreadable address'],
  ])('%s', (input, text) => expect(decodeAddress(hex(input)).text).toBe(text));

  it('any bytes give harmless text', () => {
    fc.assert(
      fc.property(bytes(160), (b) => {
        const { text } = decodeAddress(b);
        expect(text).toMatch(HARMLESS);
        expect(text.length).toBeLessThanOrEqual(310);
      }),
      { numRuns: RUNS },
    );
  });

  it('IPv6 in its short form', () => {
    const of = (text: string): string => formatIpv6(hex(text));
    expect(of('00000000000000000000000000000000')).toBe('::');
    expect(of('00000000000000000000000000000001')).toBe('::1');
    expect(of('fe800000000000000000000000000000')).toBe('fe80::');
    expect(of('20010db8000100020003000400050006')).toBe('2001:db8:1:2:3:4:5:6');
    expect(of('20010000000000010000000000000001')).toBe('2001:0:0:1::1');
  });

  it('names sockets', () => {
    expect(socketName(2, 0o2000001, 0)).toBe('inet stream');
    expect(socketName(99, 7, 3)).toBe('family 99 type 7 protocol 3');
  });
});

describe('DNS questions', () => {
  it('names the type and the labels, escaped', () => {
    expect(decodeDnsQuestion(hex(dnsQuestion('secret.exfil.example')))).toBe(
      'A secret.exfil.example',
    );
    const odd = hex('0000 0100 0001 0000 0000 0000 04 610a222e 00 001c 0001');
    expect(decodeDnsQuestion(odd)).toBe('AAAA a\\x0a\\x22.');
  });

  it('a truncated one, a pointer, an answer: none', () => {
    const whole = hex(dnsQuestion('secret.exfil.example'));
    for (let n = 0; n < whole.length - 2; n++)
      expect(decodeDnsQuestion(whole.subarray(0, n))).toBeUndefined();
    expect(decodeDnsQuestion(hex('0000 0100 0001 0000 0000 0000 c00c 0001 0001'))).toBeUndefined();
    expect(
      decodeDnsQuestion(hex('0000 8180 0001 0000 0000 0000 01 61 00 0001 0001')),
    ).toBeUndefined();
  });

  it('any bytes give undefined or harmless text', () => {
    fc.assert(
      fc.property(bytes(512), (b) => {
        expect(decodeDnsQuestion(b) ?? '').toMatch(HARMLESS);
      }),
      { numRuns: RUNS },
    );
    const header = Buffer.from('123401000001000000000000', 'hex');
    fc.assert(
      fc.property(bytes(500), (b) => {
        expect(decodeDnsQuestion(Buffer.concat([header, b])) ?? '').toMatch(HARMLESS);
      }),
      { numRuns: RUNS },
    );
  });
});

/** Memory of random content, which ends at random places. */
const memoryOf = (content: Uint8Array): ReadableMemory => ({
  read: (address, length) => {
    const start = Number(address % 4096n);
    return Buffer.from(content.subarray(start, start + Math.max(0, Math.min(length, 4096))));
  },
  write: () => content.length % 2 === 0,
});
const anyArgument = fc.oneof(
  fc.constantFrom(0n, 1n, 2n, 10n, 53n, 0x1000n, 0xffff_ffffn, 1n << 47n, (1n << 64n) - 1n),
  fc.bigInt(0n, 2n ** 64n - 1n),
);
const anyArguments = fc.array(anyArgument, { minLength: 6, maxLength: 6 });

describe('every call, with any arguments and any memory', () => {
  const judge = (purpose: 'stage' | 'text'): Judge => {
    const made = new Judge(
      {
        arch: X64,
        purpose,
        policy: 'record',
        files: new FileTable([]),
        program: '/node',
        entry: '/engine.mjs',
        loader: { names: new Set(['libc.so.6']), folders: new Set(['/lib']) },
        engine: { pid: 1, ownsThread: () => false, liveThreads: () => 1 },
        threads_max: 64,
        monitors: new Set([2]),
        now: () => 0,
      },
      7,
    );
    made.decide(
      { nr: X64.numbers['execveat'] ?? -1, args: [7n, 0n, 0n, 0n, 0x1000n, 0n], tid: 1 },
      memoryOf(new Uint8Array()),
      () => Buffer.alloc(0),
    );
    return made;
  };

  it('is judged without a throw, and refused calls are named harmlessly', () => {
    const numbers = [...Object.values(X64.numbers), -1, 100_000];
    fc.assert(
      fc.property(
        fc.constantFrom(...numbers),
        anyArguments,
        bytes(4096),
        fc.constantFrom<Phase>('start', 'data', 'sealed'),
        (nr, args, content, phase) => {
          const j = judge('stage');
          j.advance(phase);
          const { answer, attempt } = j.decide({ nr, args, tid: 1 }, memoryOf(content), () =>
            Buffer.alloc(0),
          );
          if (answer.do === 'descriptor') return;
          if (attempt !== undefined) {
            expect(attempt.target).toMatch(HARMLESS);
            expect(attempt.target.length).toBeLessThanOrEqual(310);
            expect(answer.do).toBe('errno');
          }
        },
      ),
      { numRuns: RUNS },
    );
  });

  it('a call that may not go on is either answered as known, or recorded', () => {
    const j = judge('text');
    j.advance('sealed');
    for (const nr of Object.values(X64.numbers)) {
      const { answer, attempt } = j.decide(
        { nr, args: [9n, 9n, 9n, 9n, 9n, 9n], tid: 1 },
        memoryOf(Buffer.from('/x\0'.repeat(1000))),
        () => Buffer.alloc(0),
      );
      if (answer.do === 'errno') expect([nr, attempt?.operation]).toEqual([nr, expect.any(String)]);
    }
  });

  it('describes and decodes without a throw', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...Object.keys(X64.numbers)),
        anyArguments,
        bytes(600),
        (call, args, content) => {
          expect(describeCall(call, args, memoryOf(content), new Set([1])).target).toMatch(
            HARMLESS,
          );
          expect(describeSend('sendmsg', args, memoryOf(content)).target).toMatch(HARMLESS);
        },
      ),
      { numRuns: RUNS },
    );
  });

  it('a string ends at its zero, or is none', () => {
    expect(readString(memoryOf(Buffer.from('abc\0def')), 0n)?.toString()).toBe('abc');
    expect(readString(memoryOf(Buffer.from('abc')), 0n)).toBeUndefined();
  });

  it('names an address in a message', () => {
    const content = Buffer.alloc(4096);
    content.writeBigUInt64LE(0x100n, 0x10);
    content.writeUInt32LE(16, 0x18);
    hex(inet('192.0.2.9', 99)).copy(content, 0x100);
    expect(describeSend('sendmsg', [3n, 0x10n], memoryOf(content)).target).toBe(
      'inet 192.0.2.9:99',
    );
  });
});

describe('other readers', () => {
  it("the loader's cache: any bytes", () => {
    const magic = Buffer.from('glibc-ld.so.cache1.1');
    fc.assert(
      fc.property(bytes(400), (b) => {
        for (const files of readLoaderCache(Buffer.concat([magic, b])).values())
          for (const file of files) expect(file.startsWith('/')).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it('control lines: whole, in pieces, broken, endless', () => {
    fc.assert(
      fc.property(
        fc.array(fc.jsonValue(), { maxLength: 8 }),
        fc.array(fc.nat(40), { maxLength: 60 }),
        (values, cuts) => {
          const got: unknown[] = [];
          const read = lineReader(
            (m) => got.push(m),
            (e) => expect.fail(e.message),
          );
          let rest = Buffer.from(values.map((v) => `${JSON.stringify(v)}\n`).join(''));
          for (const cut of cuts) {
            read(rest.subarray(0, cut));
            rest = rest.subarray(cut);
          }
          read(rest);
          expect(got).toEqual(JSON.parse(JSON.stringify(values)));
        },
      ),
    );
    const errors: string[] = [];
    lineReader(
      () => expect.fail('no line'),
      (e) => errors.push(e.message),
    )(Buffer.from('{oops\n'));
    lineReader(
      () => expect.fail('no line'),
      (e) => errors.push(e.message),
    )(Buffer.alloc(2 ** 21, 'x'));
    expect(errors).toHaveLength(2);
    expect(errors[1]).toBe('a control line is too long');
  });

  it('users: mapped, unused, spread, else nobody, else none', () => {
    const all = {
      uid: parseIdMap('         0          0 4294967295\n'),
      gid: parseIdMap('0 0 4294967295'),
    };
    expect(uidCandidates(all, new Set(), 0)[0]).toBe(61_184);
    expect(uidCandidates(all, new Set([61_184]), 0)[0]).toBe(61_185);
    expect(uidCandidates(all, new Set(), 1_234_567)[0]).not.toBe(61_184);
    const rootOnly = { uid: parseIdMap('0 1000 1'), gid: parseIdMap('0 1000 1') };
    expect(uidCandidates(rootOnly, new Set(), 0)).toEqual([]);
    const small = {
      uid: parseIdMap('0 100000 1000\n65534 200000 1'),
      gid: parseIdMap('0 100000 65536'),
    };
    expect(uidCandidates(small, new Set(), 0)).toEqual([65_534]);
  });

  it('file systems that others serve are known by their number', () => {
    expect(remoteFileSystem(0x6969)).toBe('NFS');
    expect(remoteFileSystem(0x65735546)).toBe('FUSE');
    expect(remoteFileSystem(-11317950)).toBe('CIFS'); // statfs gives it signed
    expect(remoteFileSystem(0xef53)).toBeUndefined();
  });
});
