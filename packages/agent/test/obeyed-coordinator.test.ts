/** Of two coordinators of one cluster a node obeys one, and the other hears why. */
import { MinikeepError } from '@minikeep/protocol';
import type { AgentServiceImplementation, HelloRequest } from '@minikeep/protocol/v1';
import { beforeEach, expect, it } from 'vitest';
import { ObeyedCoordinator, obeying } from '../src/obeyed-coordinator.ts';

const WAIT_MS = 30;
let known: number;
let obeyed: ObeyedCoordinator;
beforeEach(() => {
  known = 5;
  obeyed = new ObeyedCoordinator('mini-2', () => known, WAIT_MS);
});

const greet = (instance: string, epoch: number, serial = instance): Promise<string> =>
  codeOf(obeyed.greet({ instance, revoked: { epoch, serials: [] } }, { serial, host: '10.0.0.1' }));
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'obeyed',
    (error: unknown) => (error instanceof MinikeepError ? error.code : String(error)),
  );
const mayCall = (serial: string): Promise<string> =>
  codeOf(Promise.resolve().then(() => obeyed.begin(serial, false).end()));

it('one with an older list of who is shut out is a copy from before a restore', async () => {
  expect(await greet('old', 4)).toBe('coordinator.outdated');
  expect(await greet('one', 5)).toBe('obeyed');
  expect(await greet('old', 4)).toBe('coordinator.outdated');
  expect([await mayCall('old'), await mayCall('one')]).toEqual(['coordinator.outdated', 'obeyed']);
});

it('of two from one home the first stays while it watches; when it ends, the next one may come', async () => {
  await greet('one', 5);
  const watch = obeyed.begin('one', true);
  expect(await greet('two', 5)).toBe('coordinator.twice');
  expect(await mayCall('one')).toBe('obeyed');
  // One that was started again greets while the connection of its life before still ends.
  const next = greet('three', 5);
  watch.end();
  expect(await next).toBe('obeyed');
  expect([await mayCall('one'), await mayCall('three')]).toEqual([
    'coordinator.outdated',
    'obeyed',
  ]);
});

it('a certificate that was renewed greets again and is the same one', async () => {
  await greet('one', 5, 'first');
  obeyed.begin('first', true);
  expect(await greet('one', 5, 'second')).toBe('obeyed');
  expect([await mayCall('first'), await mayCall('second')]).toEqual(['obeyed', 'obeyed']);
});

it('one that was restored takes over at once, and what the other has under way ends', async () => {
  await greet('one', 5);
  const ended: string[] = [];
  const service = obeying(
    {
      async *watch(_: unknown, { signal }: { signal: AbortSignal }) {
        yield 1;
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      },
      text: (_: unknown, { signal }: { signal: AbortSignal }) =>
        new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(new Error('aborted'))),
        ),
    } as unknown as AgentServiceImplementation,
    obeyed,
  );
  const context = {
    signal: new AbortController().signal,
    metadata: { get: () => 'one' },
  } as unknown as Parameters<AgentServiceImplementation['text']>[1];
  const watching = (async () => {
    for await (const _ of service.watch({ instance: '', after: 0 }, context)) ended.push('heard');
  })();
  const asking = Promise.resolve(service.text({} as never, context));
  await expect.poll(() => ended).toEqual(['heard']);
  expect(await greet('restored', 1_000_005)).toBe('obeyed');
  known = 1_000_005;
  expect([await codeOf(watching), await codeOf(asking)]).toEqual([
    'coordinator.outdated',
    'coordinator.outdated',
  ]);
  expect(await greet('one', 5)).toBe('coordinator.outdated');
});

it('a throw-away cluster has only one, which says nothing of itself', async () => {
  const hello: Pick<HelloRequest, 'instance' | 'revoked'> = { instance: '', revoked: undefined };
  await obeyed.greet(hello, { serial: 'x', host: '127.0.0.1' });
  expect(await mayCall('anyone')).toBe('obeyed');
});
