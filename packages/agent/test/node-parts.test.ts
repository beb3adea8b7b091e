/** The agent's small parts: configuration, watching, what a process does. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Violation, type WatchResponse } from '@minikeep/protocol/v1';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '@minikeep/protocol/config';
import { AGENT_CONFIG } from '../src/config.ts';
import { directPlatform } from '@minikeep/testkit';
import { EventHub } from '../src/event-hub.ts';
import { Hosts } from '../src/hosts.ts';
import { Violations } from '../src/violations.ts';
import { SliceStore } from '../src/slice-store.ts';
import { TestSlice, bring } from './slices.ts';
import { parsePs, processState } from '../src/process-state.ts';

describe('a configuration', () => {
  const good = {
    cluster: 'c1',
    node: 'a',
    listen: '127.0.0.1:0',
    credentials: { authority: 'a.pem', certificate: 'c.pem', privateKey: 'k.pem' },
    store: { folder: 'store', bytes_max: 1 },
    program_folder: 'dist',
  };

  const parse = (text: string) => parseConfig(AGENT_CONFIG, text, 'agent.json', 'agent');

  it('has safe defaults', () => {
    expect(parse(JSON.stringify(good))).toMatchObject({
      unsafe_no_sandbox: false,
      end_with_stdin: false,
    });
  });

  it.each([
    ['no JSON', '{', /invalid: |not valid/],
    ['a missing field', JSON.stringify({ ...good, node: undefined }), /node/],
    ['a name that can not be in a certificate', JSON.stringify({ ...good, node: 'a/b' }), /node/],
    ['a field that nobody knows', JSON.stringify({ ...good, unsafe: true }), /unsafe/],
    ['too much text', JSON.stringify({ ...good, node: 'x'.repeat(1_100_000) }), /too long/],
  ])('with %s is refused', (_, text, what) => {
    expect(() => parse(text)).toThrow(what);
    expect(() => parse(text)).toThrow(/agent\.json/);
  });
});

describe('the event hub', () => {
  it('tells every watcher everything, beginning with a sign of life', async () => {
    const hub = new EventHub();
    const stop = new AbortController();
    const seen: string[][] = [[], []];
    const watching = seen.map(async (list) => {
      for await (const { event } of hub.watch(stop.signal)) {
        list.push(event?.$case ?? '');
        if (seen.every(({ length }) => length === 1))
          hub.emit({ $case: 'eventsDropped', value: { count: 7, violations: 0 } });
        if (seen.every(({ length }) => length >= 3)) stop.abort();
      }
    });
    await Promise.all(watching);
    for (const list of seen)
      expect(list.slice(0, 3)).toEqual(['heartbeat', 'eventsDropped', 'heartbeat']);
    hub.close();
  });

  it('keeps no watcher who had gone before it began', async () => {
    const hub = new EventHub();
    // One more than it has room for.
    for (let i = 0; i < 17; i++)
      for await (const { event } of hub.watch(AbortSignal.abort()))
        expect(event?.$case).toBe('heartbeat');
    hub.close();
  });

  it('drops events for a watcher that does not read, and says how many', async () => {
    const hub = new EventHub();
    const stop = new AbortController();
    const watcher = hub.watch(stop.signal)[Symbol.asyncIterator]();
    await watcher.next();
    for (let i = 0; i < 5_000; i++)
      hub.emit({ $case: 'engineLog', value: { deployment: '', kind: 1, level: '', text: `${i}` } });
    let read = 0;
    let told = 0;
    const next = async (): Promise<WatchResponse['event']> => (await watcher.next()).value?.event;
    while (read < 1_000) if ((await next())?.$case === 'engineLog') read++;
    hub.emit({ $case: 'engineLog', value: { deployment: '', kind: 1, level: '', text: 'later' } });
    const event = await next();
    if (event?.$case === 'eventsDropped') told = event.value.count;
    expect(read).toBe(1_000);
    expect(told).toBeGreaterThan(3_900);
    stop.abort();
    hub.close();
  });

  it('tells how many attempts to get out were dropped', async () => {
    const hub = new EventHub();
    const stop = new AbortController();
    const watcher = hub.watch(stop.signal)[Symbol.asyncIterator]();
    await watcher.next();
    const attempt = Violation.create({ operation: 'connect', count: 2 });
    for (let i = 0; i < 3_000; i++) hub.emit({ $case: 'violation', value: attempt });
    let seen = 0;
    let lost = -1;
    const read = async (): Promise<void> => {
      const event = (await watcher.next()).value?.event;
      if (event?.$case === 'violation') seen += event.value.count;
      if (event?.$case === 'eventsDropped') lost = event.value.violations;
    };
    while (seen < 3_000) await read();
    // There is room again: the next one brings along what was lost.
    hub.emit({ $case: 'violation', value: attempt });
    while (lost < 0) await read();
    expect(seen + lost).toBe(6_000);
    stop.abort();
    hub.close();
  });

  it('keeps attempts to get out, however much else an engine says', async () => {
    const hub = new EventHub();
    const stop = new AbortController();
    const watcher = hub.watch(stop.signal)[Symbol.asyncIterator]();
    await watcher.next();
    for (let i = 0; i < 3_000; i++) {
      hub.emit({ $case: 'engineLog', value: { deployment: '', kind: 1, level: '', text: '' } });
      hub.emit({
        $case: 'stepFault',
        value: { deployment: '', epoch: 1, session: 1, step: i, error: undefined },
      });
    }
    const attempt = Violation.create({ operation: 'connect', count: 1 });
    for (let i = 0; i < 200; i++) hub.emit({ $case: 'violation', value: attempt });
    let kept = 0;
    for (let i = 0; i < 1_500 + 200; i++)
      if ((await watcher.next()).value?.event?.$case === 'violation') kept++;
    expect(kept).toBeGreaterThanOrEqual(199);
    stop.abort();
    hub.close();
  });
});

describe('what a process does', () => {
  it('is seen: computing, stopped, gone', async () => {
    const child = spawn(process.execPath, ['--eval', 'for (;;) Math.random();'], {
      stdio: 'ignore',
    });
    const pid = child.pid ?? 0;
    await expect
      .poll(async () => (await processState(pid))?.cpuSeconds ?? 0, { timeout: 10_000 })
      .toBeGreaterThan(0.3);
    expect((await processState(pid))?.stopped).toBe(false);
    child.kill('SIGSTOP');
    await expect
      .poll(async () => (await processState(pid))?.stopped, { timeout: 10_000 })
      .toBe(true);
    const before = (await processState(pid))?.cpuSeconds;
    await pause(300);
    expect((await processState(pid))?.cpuSeconds).toBe(before);
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    await expect.poll(() => processState(pid), { timeout: 10_000 }).toBe(undefined);
  });

  // The forms that ps(1) of macOS describes for the keywords `state` and `time`.
  it.each([
    ['S+     0:01.23\n', { stopped: false, cpuSeconds: 1.23 }],
    ['T      1:02.50\n', { stopped: true, cpuSeconds: 62.5 }],
    ['Rs   102:03.00\n', { stopped: false, cpuSeconds: 6123 }],
    ['T  1-02:03:04', { stopped: true, cpuSeconds: 93_784 }],
    ['', undefined],
    ['ps: no such process', undefined],
  ])('is read from ps: %j', (text, expected) => {
    expect(parsePs(text)).toEqual(expected);
  });
});

describe('a deployment that failed before it was loaded', () => {
  it('leaves no slice in use', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-parts-'));
    const store = await SliceStore.open(folder, 0);
    const hub = new EventHub();
    try {
      await bring(store, 'd', new TestSlice([7]));
      const held = (): string[] => readdirSync(path.join(folder, 'slices'));
      expect(held().filter((name) => name.endsWith('.gguf'))).toHaveLength(1);
      const hosts = new Hosts({
        node: 'a',
        store,
        hub,
        violations: new Violations('a', hub),
        credentials: { authority: '', certificate: '', privateKey: '' },
        platform: directPlatform(),
        sandboxed: false,
        programs: folder,
      });
      await hosts.end('d', 1, 'the deployment ended');
      // Nobody uses it, and the store may keep nothing that nobody uses.
      expect(held()).toEqual([]);
    } finally {
      hub.close();
      await store.close();
      rmSync(folder, { recursive: true });
    }
  });
});
