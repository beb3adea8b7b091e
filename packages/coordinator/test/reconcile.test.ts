/** Reconciling: what is wanted and what is, through random commands, crashes and faults; and its rules one by one. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MinikeepError } from '@minikeep/protocol';
import { availability } from '../src/reconcile/step.ts';
import { NODES, World, placementOn } from './reconcile-world.ts';

const RUNS = process.env['MINIKEEP_LONG'] === '1' ? 20_000 : 1_000;
const NAMES = ['x', 'y'] as const;

const node = fc.constantFrom(...NODES);
const name = fc.constantFrom(...NAMES);
const some = fc.uniqueArray(node, { minLength: 1, maxLength: 3 });
type Act = (world: World) => void;
const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.nat(20).map(
      (n): Act =>
        (world) =>
          void world.deliver(n),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(name, some).map(
      ([d, on]): Act =>
        (world) =>
          world.up(d, on),
    ),
  },
  {
    weight: 2,
    arbitrary: name.map(
      (d): Act =>
        (world) =>
          world.down(d),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(node, fc.boolean()).map(([n, room]): Act => (world) => {
      world.drain(n, room);
    }),
  },
  {
    weight: 2,
    arbitrary: node.map(
      (n): Act =>
        (world) =>
          world.resume(n),
    ),
  },
  {
    weight: 2,
    arbitrary: node.map(
      (n): Act =>
        (world) =>
          world.reboot(n),
    ),
  },
  {
    weight: 2,
    arbitrary: node.map(
      (n): Act =>
        (world) =>
          world.away(n),
    ),
  },
  {
    weight: 2,
    arbitrary: node.map(
      (n): Act =>
        (world) =>
          world.back(n),
    ),
  },
  {
    weight: 2,
    arbitrary: node.map(
      (n): Act =>
        (world) =>
          world.engineDies(n),
    ),
  },
  { weight: 2, arbitrary: fc.constant((world: World) => world.crash()) },
  {
    weight: 2,
    arbitrary: fc.nat(20_000).map(
      (ms): Act =>
        (world) =>
          world.advance(ms),
    ),
  },
);

/** Everything that is wanted is up in its epoch, whole, and nothing else is anywhere. */
function expectAsWanted(world: World): void {
  expect(world.faults).toEqual([]);
  for (const deployment of NAMES) {
    const row = world.rows.get(deployment);
    expect(row?.wanted === 'up', `${deployment} is wanted`).toBe(world.wanted.has(deployment));
    if (row?.wanted !== 'up') {
      for (const { parts } of world.nodes.values()) expect(parts.has(deployment)).toBe(false);
      continue;
    }
    expect(world.state.deployments.get(deployment)?.phase).toMatchObject({
      type: 'ready',
      epoch: row.epoch,
    });
    expect(availability(world.state, deployment)).toBe('serve');
    const stages = row.placement.stages.map((stage) => stage.node);
    for (const [n, { parts }] of world.nodes)
      expect(parts.get(deployment)?.epoch).toBe(stages.includes(n) ? row.epoch : undefined);
    for (const n of world.draining) expect(stages).not.toContain(n);
  }
}

describe('through any commands, crashes and faults', () => {
  it('what is wanted comes up, in one epoch, and nothing else stays', () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 120, size: 'max' }), (acts) => {
        const world = new World();
        for (const one of acts) one(world);
        world.settle();
        expectAsWanted(world);
      }),
      { numRuns: RUNS },
    );
  });
});

describe('a coordinator that was killed', () => {
  it('attaches what runs: no reload, the epoch kept', () => {
    const world = new World();
    world.up('x', ['a', 'b']);
    world.settle();
    world.crash();
    world.settle();
    expectAsWanted(world);
    expect([world.starts, world.attaches]).toEqual([['x 1'], ['x 1']]);
  });

  it('in the middle of `up` begins a new epoch with all that was wanted', () => {
    for (let delivered = 0; delivered < 20; delivered++) {
      const world = new World();
      while (world.deliver(0));
      world.up('x', ['a', 'b', 'c']);
      for (let i = 0; i < delivered; i++) world.deliver(0);
      world.crash();
      world.settle();
      expectAsWanted(world);
    }
  });

  it('in the middle of a drain goes on with the move', () => {
    const world = new World();
    world.up('x', ['a', 'b']);
    world.settle();
    world.drain('b', true);
    world.crash();
    world.settle();
    expectAsWanted(world);
    expect(world.draining).toEqual(new Set(['b']));
    expect(world.starts).toEqual(['x 1', 'x 2']);
  });

  it('with a home from an old copy begins later than anything that the nodes know', () => {
    const world = new World();
    world.up('x', ['a', 'b']);
    world.settle();
    const old = world.rows.get('x');
    for (let i = 0; i < 3; i++) {
      world.down('x');
      world.settle();
      world.up('x', ['a', 'b']);
      world.settle();
    }
    const { epoch } = world.rows.get('x') ?? { epoch: 0 };
    expect(epoch).toBe(4);
    if (old !== undefined) world.rows.set('x', old);
    world.crash();
    world.settle();
    expectAsWanted(world);
    expect(world.rows.get('x')?.epoch).toBe(epoch + 1);
  });
});

describe('a node', () => {
  it('that was only cut off is attached again, without a new epoch', () => {
    const world = new World();
    world.up('x', ['a', 'b']);
    world.settle();
    world.away('b');
    while (world.deliver(0));
    const answer = availability(world.state, 'x') as MinikeepError;
    expect(answer).toMatchObject({
      code: 'deployment.waiting',
      exitCode: 4,
      details: { node: 'b' },
    });
    world.settle();
    expectAsWanted(world);
    expect([world.starts, world.attaches]).toEqual([['x 1'], ['x 1']]);
  });

  it('that was restarted loads its stage again; the others keep their engines, and the epoch', () => {
    const world = new World();
    world.up('x', ['a', 'b', 'c']);
    world.settle();
    world.reboot('b');
    while (world.deliver(0));
    world.settle();
    expectAsWanted(world);
    expect(world.loads).toEqual(['x 1 a', 'x 1 b', 'x 1 c', 'x 1 b']);
    expect([world.starts, world.attaches]).toEqual([['x 1'], ['x 1']]);
  });

  it('whose engine dies loads that one again, also when the coordinator is killed meanwhile', () => {
    for (let delivered = 0; delivered < 20; delivered++) {
      const world = new World();
      world.up('x', ['a', 'b', 'c']);
      world.settle();
      world.engineDies('c');
      for (let i = 0; i < delivered; i++) if (!world.deliver(0)) world.advance(500);
      world.crash();
      world.settle();
      expectAsWanted(world);
      expect(world.rows.get('x')?.epoch).toBe(1);
      expect(new Set(world.loads.slice(3))).toEqual(new Set(['x 1 c']));
    }
  });

  it('that lost power with all others begins a new epoch: there is nothing to keep', () => {
    const world = new World();
    world.up('x', ['a', 'b']);
    world.settle();
    for (const n of ['a', 'b']) world.away(n);
    for (const n of ['a', 'b']) world.reboot(n);
    world.settle();
    expectAsWanted(world);
    expect(world.starts).toEqual(['x 1', 'x 2']);
  });

  it('that was away while another placement was made finds its engines ended', () => {
    const world = new World();
    world.up('x', ['a', 'b']);
    world.settle();
    world.away('b');
    world.down('x');
    while (world.deliver(0));
    world.up('x', ['a', 'c']);
    while (world.deliver(0));
    expect(world.nodes.get('b')?.parts.get('x')?.epoch).toBe(1);
    world.settle();
    expectAsWanted(world);
  });
});

describe('a node that is removed', () => {
  const removed = (world: World, force: boolean, ...to: string[]) => {
    const moves = new Map(to.length === 0 ? [] : [['x', placementOn(to)]]);
    return world.feed({ type: 'remove_asked', ask: 99, node: 'b', moves, force });
  };
  const onAB = (): World => {
    const world = new World();
    world.up('x', ['a', 'b']);
    world.settle();
    return world;
  };

  it('leaves its layers to the others, and what comes meanwhile waits', () => {
    const world = onAB();
    expect(removed(world, false, 'a', 'c')).toContainEqual({ type: 'accept', ask: 99 });
    expect(availability(world.state, 'x')).toBe('hold');
    world.crash();
    world.settle();
    expectAsWanted(world);
    expect(world.rows.get('x')?.placement.stages.map((s) => s.node)).toEqual(['a', 'c']);
    expect(world.starts).toEqual(['x 1', 'x 2']);
  });

  it('is kept, with nothing touched, when the others have no room', () => {
    const world = onAB();
    const [refusal, ...rest] = removed(world, false);
    expect(refusal).toMatchObject({ type: 'refuse', error: { code: 'remove.no_room' } });
    expect(rest).toEqual([]);
    // Nor may it go to a node that is drained, or back to itself.
    world.drain('c', true);
    while (world.deliver(0));
    for (const to of ['b', 'c'])
      expect(removed(world, false, 'a', to)[0]).toMatchObject({ type: 'refuse' });
    expectAsWanted(world);
    expect(world.starts).toEqual(['x 1']);
  });

  it('goes by force all the same: what it held waits and says so', () => {
    const world = onAB();
    expect(removed(world, true)).toContainEqual({ type: 'accept', ask: 99 });
    world.away('b');
    world.feed({ type: 'node_removed', node: 'b' });
    while (world.deliver(0));
    expect(availability(world.state, 'x')).toMatchObject({ code: 'deployment.waiting' });
    expect(world.faults).toEqual([]);
  });
});

describe('a drain', () => {
  it('is refused before anything is touched when the rest has no room', () => {
    const world = new World();
    world.up('x', ['a', 'b']);
    world.settle();
    world.drain('b', false);
    expect(world.refusals).toBe(1);
    expectAsWanted(world);
    expect(world.starts).toEqual(['x 1']);
  });

  it('leaves no engine behind on the node, also when it breaks meanwhile', () => {
    const world = new World();
    world.settle();
    // Its engine is loaded after the node was last asked what it holds.
    world.up('x', ['d']);
    world.settle();
    world.drain('d', true);
    world.reboot('a');
    // That it broke is heard before that it is quiet.
    world.deliver(1);
    world.settle();
    expectAsWanted(world);
    expect(world.nodes.get('d')?.parts.size).toBe(0);
  });

  it('lets requests wait, not fail, until the new epoch is ready', () => {
    const world = new World();
    world.up('x', ['a', 'b']);
    world.settle();
    world.drain('b', true);
    do expect(['hold', 'serve']).toContain(availability(world.state, 'x'));
    while (world.deliver(0));
    expectAsWanted(world);
    expect(world.rows.get('x')?.epoch).toBe(2);
  });
});

it('what fails again and again is tried later and later, and never given up', () => {
  const world = new World();
  world.up('x', ['a']);
  const pauses: number[] = [];
  for (let i = 0; i < 12; i++) {
    while (world.deliver(0));
    world.engineDies('a');
    while (world.deliver(0));
    pauses.push(world.wakeMs - world.nowMs);
    world.advance(world.wakeMs - world.nowMs);
  }
  expect(pauses.slice(0, 4)).toEqual([1_000, 2_000, 4_000, 8_000]);
  expect(Math.max(...pauses)).toBe(60_000);
  world.settle();
  expectAsWanted(world);
});
