/** The coordinator's small parts: what it remembers, what it lets through. */
import { mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_SAMPLING, MinikeepError } from '@minikeep/protocol';
import { parseConfig } from '@minikeep/protocol/config';
import { COORDINATOR_CONFIG } from '../src/config.ts';
import { DigestIndex, fileIdentity } from '@minikeep/models';
import { Deployment, type DeploymentOptions } from '../src/deployment.ts';
import { TextEngine } from '../src/text-engine.ts';
import { leastSealed } from '../src/seal/least.ts';
import { samplingParams } from '../src/sampling.ts';
import { SealLevel, Violation } from '@minikeep/protocol/v1';
import { ViolationLog } from '../src/violation-log.ts';

let folder = '';
beforeEach(() => (folder = mkdtempSync(path.join(tmpdir(), 'minikeep-parts-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('the digest index', () => {
  const digest = 'ab'.repeat(32);

  it('remembers, also for the next process', async () => {
    await new DigestIndex(folder).remember('slice 1', digest);
    expect(await new DigestIndex(folder).find('slice 1')).toBe(digest);
    expect(await new DigestIndex(folder).find('slice 2')).toBe(undefined);
  });

  it('treats a damaged entry as forgotten', async () => {
    const index = new DigestIndex(folder);
    await index.remember('slice 1', digest);
    const [name = ''] = readdirSync(path.join(folder, 'digests'));
    for (const damage of ['', '{', '{"subject":"slice 1","sha256":"xyz"}', '{"subject":"other"}']) {
      writeFileSync(path.join(folder, 'digests', name), damage);
      expect(await index.find('slice 1')).toBe(undefined);
    }
  });

  it('knows a moved file, and not one that was changed in place', async () => {
    const file = path.join(folder, 'model');
    writeFileSync(file, 'one');
    const first = await fileIdentity([file]);
    renameSync(file, `${file}-moved`);
    renameSync(`${file}-moved`, file);
    await new Promise((resolve) => setTimeout(resolve, 20));
    writeFileSync(file, 'two');
    expect(await fileIdentity([file])).not.toBe(first);
  });
});

describe('sampling', () => {
  it('has the defaults of the protocol', () => {
    expect(samplingParams(undefined)).toEqual(DEFAULT_SAMPLING);
    expect(samplingParams({ temperature: 0, stop: ['x'] })).toEqual({
      ...DEFAULT_SAMPLING,
      temperature: 0,
      stop: ['x'],
    });
  });

  it.each([
    ['temperature', { temperature: Number.NaN, stop: [] }],
    ['top_p', { topP: 0, stop: [] }],
    ['seed', { seed: 2 ** 32, stop: [] }],
    ['stop.0', { stop: [''] }],
    ['stop', { stop: Array.from({ length: 17 }, () => 'a') }],
    ['repeat_penalty', { repeatPenalty: 0, stop: [] }],
  ])('refuses an impossible %s, naming it', (parameter, message) => {
    expect(() => samplingParams(message)).toThrow(
      expect.objectContaining({
        code: 'generate.sampling_invalid',
        exitCode: 2,
        details: { parameter },
      }),
    );
  });
});

describe('the violation log', () => {
  const violation = (node: string, count: number) => ({
    node,
    deployment: 'd',
    instance: 'i',
    sequence: 1,
    purpose: 'stage',
    atSeconds: 1,
    kind: 'network',
    operation: 'connect',
    target: '',
    refusedBy: 'warden',
    seenBy: [],
    count,
    stopped: false,
    epoch: 1,
    targetLength: 0,
    targetDigest: '',
    thread: 0,
    payloadBytes: 0,
    number: 0,
  });

  it('tells what was and then what comes, each once', async () => {
    const log = new ViolationLog();
    log.add(violation('a', 1));
    const abort = new AbortController();
    const following = log.stream(true, abort.signal);
    const seen: string[] = [];
    seen.push((await following.next()).value?.violation?.node ?? '');
    log.add(violation('b', 3));
    seen.push((await following.next()).value?.violation?.node ?? '');
    abort.abort();
    expect((await following.next()).done).toBe(true);
    expect(seen).toEqual(['a', 'b']);
    expect([log.total, log.totalOf('a'), log.totalOf('b')]).toEqual([4, 1, 3]);
  });

  it('ends for one who had gone before it began', async () => {
    const log = new ViolationLog();
    log.add(violation('a', 1));
    let seen = 0;
    for await (const { violation: v } of log.stream(true, AbortSignal.abort()))
      seen += v?.count ?? 0;
    expect(seen).toBe(1);
  });

  it('keeps the latest ten thousand and counts all', async () => {
    const log = new ViolationLog();
    for (let i = 0; i < 10_010; i++) log.add(violation(`n${i}`, 1));
    const kept: string[] = [];
    for await (const { violation: v } of log.stream(false, new AbortController().signal))
      kept.push(v?.node ?? '');
    expect(kept.length).toBe(10_000);
    expect(kept.at(-1)).toBe('n10009');
    expect([log.total, log.totalOf('n0'), log.totalOf('n10009')]).toEqual([10_010, 1, 1]);
  });
});

describe('a configuration', () => {
  it('is refused with what is wrong', () => {
    expect(() =>
      parseConfig(COORDINATOR_CONFIG, '{"cluster":"C!"}', 'file.json', 'coordinator'),
    ).toThrow(expect.objectContaining({ code: 'config.invalid', exitCode: 2 }));
  });
});

/** On one node, with only what nodeEvent looks at. */
function bareDeployment(epoch: number) {
  const node = { name: 'node-1' };
  const stages = [{ node, layers: [0, 4] }];
  const sealOf = () => SealLevel.SEAL_LEVEL_ENGINE;
  const options = {
    name: 'run',
    epoch,
    shape: { stages },
    sealOf,
  } as unknown as DeploymentOptions;
  return { node, deployment: new Deployment(options) };
}

it('a deployment counts the attempts of its own epoch', () => {
  const { node, deployment } = bareDeployment(2);
  const attempts = (of: string, epoch: number, count: number): void =>
    deployment.nodeEvent(node as never, {
      $case: 'violation',
      value: Violation.fromPartial({ deployment: of, epoch, count }),
    });
  attempts('run', 2, 3);
  attempts('run', 1, 5);
  attempts('other', 2, 7);
  expect(deployment.violations).toBe(3);
});

describe('the level of the seal', () => {
  const { SEAL_LEVEL_NONE: none, SEAL_LEVEL_BLIND: blind, SEAL_LEVEL_ENGINE: engine } = SealLevel;

  it('of all is the one that promises least', () => {
    expect(leastSealed([engine, blind, engine])).toBe(blind);
    expect(leastSealed([blind, none])).toBe(none);
    expect(leastSealed([engine, SealLevel.SEAL_LEVEL_NODE])).toBe(engine);
  });

  it('is blind once a node has lost the record of attempts, and not for lost log lines', () => {
    const { node, deployment } = bareDeployment(1);
    const lose = (violations: number): void =>
      deployment.nodeEvent(node as never, {
        $case: 'eventsDropped',
        value: { count: 5, violations },
      });
    lose(0);
    expect(deployment.sealed).toBe(none);
    lose(2);
    expect(deployment.sealed).toBe(blind);
  });
});

describe('a text engine that is started again', () => {
  it('is waited for only as long as whoever asked wants to wait', async () => {
    let finish = (): void => {};
    const started = new Promise<void>((resolve) => (finish = resolve));
    const text = async (): Promise<{ tokens: number }> => ({ tokens: 1 });
    const node = { name: 'node-1', agent: { text } };
    const engine = new TextEngine(node as never, 'run', () => started);
    engine.died(new MinikeepError('engine.gone', 'gone', { next: 'Wait.' }));
    const prompt = { $case: 'raw', value: 'Hi' } as const;
    const leaving = new AbortController();
    const first = engine.tokenize(prompt, leaving.signal);
    const second = engine.tokenize(prompt, new AbortController().signal);
    leaving.abort(new MinikeepError('call.cancelled', 'left', { next: 'Nothing.' }));
    await expect(first).rejects.toMatchObject({ code: 'call.cancelled' });
    finish();
    await expect(second).resolves.toEqual({ tokens: 1 });
  });
});
