// The root helper's mind, with a disk and a kernel that fail at every step: what nobody confirmed goes, what was
// confirmed stays until the authority says otherwise, and nobody else has a say.
import { beforeAll, describe, expect, it } from 'vitest';
import { CONFIRM_MS, SealKeeper } from '../src/keeper.ts';
import { orderDigest, signOrder, type SealOrder, type UnsignedOrder } from '../src/order.ts';
import { newAuthority, type Authority } from './authority.ts';
import { FakeClock, FakeMachine, wishFor } from './fakes.ts';

let authority: Authority;
let stranger: Authority;
beforeAll(async () => {
  authority = await newAuthority('law');
  stranger = await newAuthority('law');
});

const FOR = { cluster: 'law', node: 'mini-2' };

interface Bench {
  readonly machine: FakeMachine;
  readonly clock: FakeClock;
  readonly keeper: SealKeeper;
  readonly notes: string[];
}

async function started(machine = new FakeMachine(), clock = new FakeClock()): Promise<Bench> {
  const notes: string[] = [];
  const keeper = new SealKeeper({
    ...FOR,
    authority: authority.certificate,
    firewall: machine.firewall,
    store: machine.store,
    clock,
    onNote: (note) => void notes.push(note),
  });
  await keeper.start();
  return { machine, clock, keeper, notes };
}

const signed = (order: UnsignedOrder, by = authority): SealOrder => signOrder(order, by.key);
const applyFor = (keeper: SealKeeper, peer: string): SealOrder =>
  signed({ verb: 'apply', ...FOR, nonce: keeper.status().nonce, wish: wishFor(peer) });
const confirmOf = (order: SealOrder): SealOrder =>
  signed({ verb: 'confirm', ...FOR, order: orderDigest(order) });
const removeFor = (keeper: SealKeeper): SealOrder =>
  signed({ verb: 'remove', ...FOR, nonce: keeper.status().nonce });

async function sealed(keeper: SealKeeper, peer: string): Promise<void> {
  const order = applyFor(keeper, peer);
  await keeper.order(order);
  await keeper.order(confirmOf(order));
}

describe('rules', () => {
  it('that are not confirmed within a minute are undone, to none', async () => {
    const { machine, clock, keeper } = await started();
    const order = applyFor(keeper, '10.0.0.1');
    expect(await keeper.order(order)).toMatchObject({ stage: 'pending', standing: true });
    await clock.pass(CONFIRM_MS - 1);
    expect(machine.isFor('10.0.0.1')).toBe(true);
    await clock.pass(1);
    expect(machine.standing).toBeUndefined();
    expect(keeper.status()).toMatchObject({ stage: 'open', order: '' });
    await expect(keeper.order(confirmOf(order))).rejects.toMatchObject({
      code: 'seal.nothing_to_confirm',
    });
  });
  it('that are not confirmed give way to those that were', async () => {
    const { machine, clock, keeper } = await started();
    await sealed(keeper, '10.0.0.1');
    await keeper.order(applyFor(keeper, '10.0.0.2'));
    expect(machine.isFor('10.0.0.2')).toBe(true);
    await clock.pass(CONFIRM_MS);
    expect(machine.isFor('10.0.0.1')).toBe(true);
    expect(keeper.status()).toMatchObject({ stage: 'confirmed', standing: true });
  });
  it('that need not wait are undone at once, and only while they wait', async () => {
    const { machine, keeper } = await started();
    await sealed(keeper, '10.0.0.1');
    const order = applyFor(keeper, '10.0.0.2');
    const undo = signed({ verb: 'undo', ...FOR, order: orderDigest(order) });
    await keeper.order(order);
    expect(await keeper.order(undo)).toMatchObject({ stage: 'confirmed', standing: true });
    expect(machine.isFor('10.0.0.1')).toBe(true);
    const other = applyFor(keeper, '10.0.0.3');
    await keeper.order(other);
    await keeper.order(confirmOf(other));
    await keeper.order(signed({ verb: 'undo', ...FOR, order: orderDigest(other) }));
    expect(machine.isFor('10.0.0.3')).toBe(true);
  });
  it('that are confirmed stay: after any time, and in the next life', async () => {
    const { machine, clock, keeper } = await started();
    await sealed(keeper, '10.0.0.1');
    await clock.pass(1_000 * CONFIRM_MS);
    expect(machine.isFor('10.0.0.1')).toBe(true);
    // A reboot: the kernel has forgotten.
    machine.standing = undefined;
    const { keeper: next } = await started(machine, clock);
    expect(machine.isFor('10.0.0.1')).toBe(true);
    expect(next.status()).toMatchObject({ stage: 'confirmed', standing: true });
    await next.order(removeFor(next));
    expect(machine.standing).toBeUndefined();
    expect((await started(machine)).keeper.status().stage).toBe('open');
  });
  it('that were changed or taken away are put back, and it is told', async () => {
    const { machine, keeper, notes, clock } = await started();
    await sealed(keeper, '10.0.0.1');
    await keeper.check();
    expect(keeper.status().restored).toBe(0);
    machine.standing = undefined;
    await keeper.check();
    expect(machine.isFor('10.0.0.1')).toBe(true);
    machine.standing = { digest: 'something else', dropped: {} };
    await keeper.check();
    expect(machine.isFor('10.0.0.1')).toBe(true);
    expect(keeper.status()).toMatchObject({ restored: 2, restoredAtMs: clock.now() });
    expect(notes).toEqual(expect.arrayContaining([expect.stringContaining('put back')]));
  });
  it('that can’t be put back are no seal, and are tried again', async () => {
    const { machine, keeper } = await started();
    await sealed(keeper, '10.0.0.1');
    machine.standing = undefined;
    machine.failAt = { step: machine.steps, done: false };
    await keeper.check();
    expect(keeper.status()).toMatchObject({ standing: false, trouble: 'killed here' });
    await keeper.check();
    expect(keeper.status()).toMatchObject({ standing: true, trouble: '' });
  });
  it('count what they dropped, over being set anew', async () => {
    const { machine, keeper } = await started();
    await sealed(keeper, '10.0.0.1');
    const { digest = '' } = machine.standing ?? {};
    machine.standing = { digest, dropped: { incoming: 7 } };
    await keeper.check();
    machine.standing = { digest: 'other', dropped: { incoming: 9 } };
    await keeper.check();
    machine.standing = { digest, dropped: { incoming: 3 } };
    await keeper.check();
    expect(keeper.status().dropped).toEqual({ incoming: 12 });
  });
});

describe('an order', () => {
  it('of anybody else, for another node, or used before, changes nothing', async () => {
    const { machine, keeper } = await started();
    const { nonce } = keeper.status();
    const apply: UnsignedOrder = { verb: 'apply', ...FOR, nonce, wish: wishFor('10.0.0.9') };
    const good = signed(apply);
    const refused = async (order: SealOrder, code: string): Promise<void> =>
      expect(keeper.order(order)).rejects.toMatchObject({ code });
    await refused(signed(apply, stranger), 'seal.not_signed');
    await refused({ ...good, text: good.text.replace('10.0.0.9', '10.0.0.8') }, 'seal.not_signed');
    await refused({ ...good, signature: '' }, 'seal.not_signed');
    await refused(signed({ ...apply, node: 'mini-3' }), 'seal.other_node');
    await refused(signed({ ...apply, cluster: 'clinic' }), 'seal.other_node');
    await refused(signed({ ...apply, nonce: '0'.repeat(64) }), 'seal.used_order');
    await refused(signed({ verb: 'confirm', ...FOR, order: nonce }), 'seal.nothing_to_confirm');
    expect(machine.standing).toBeUndefined();
    await keeper.order(good);
    await refused(good, 'seal.used_order');
  });
  it('that asks for what can’t be sealed leaves what stands', async () => {
    const { machine, keeper } = await started();
    await sealed(keeper, '10.0.0.1');
    const { nonce } = keeper.status();
    const wish = { ...wishFor('10.0.0.2'), api: { port: 80, clients: ['0.0.0.0/0'] } };
    await expect(
      keeper.order(signed({ verb: 'apply', ...FOR, nonce, wish })),
    ).rejects.toMatchObject({ code: 'seal.open_api' });
    expect(machine.isFor('10.0.0.1')).toBe(true);
    expect(keeper.status().stage).toBe('confirmed');
  });
  it('said twice, because the answer was lost, is confirmed once', async () => {
    const { keeper } = await started();
    const order = applyFor(keeper, '10.0.0.1');
    await keeper.order(order);
    await keeper.order(confirmOf(order));
    expect(await keeper.order(confirmOf(order))).toMatchObject({ stage: 'confirmed' });
  });
});

describe('killed or refused by disk or kernel at any step', () => {
  const STEPS_MAX = 4;
  const cases = Array.from({ length: STEPS_MAX }, (_, step) =>
    [false, true].map((done) => ({ step, done })),
  ).flat();

  it.each(cases)('of a change ($step, done $done): the old rules, or the ordered', async (at) => {
    const { machine, clock, keeper } = await started();
    await sealed(keeper, '10.0.0.1');
    machine.failAt = { step: machine.steps + at.step, done: at.done };
    const order = applyFor(keeper, '10.0.0.2');
    const confirmed = await keeper.order(order).then(
      () =>
        keeper.order(confirmOf(order)).then(
          () => true,
          () => false,
        ),
      () => false,
    );
    expect(machine.standing).toBeDefined();
    // In another life, whatever this one would still have done:
    const inkernel = structuredClone(machine.standing);
    const disk = structuredClone(machine.kept);
    machine.failAt = undefined;
    const { keeper: next } = await started(machine);
    expect(next.status()).toMatchObject({ stage: 'confirmed', standing: true });
    expect(machine.isFor('10.0.0.1') || machine.isFor('10.0.0.2')).toBe(true);
    if (confirmed) expect(machine.isFor('10.0.0.2')).toBe(true);
    // And in this one, which lives on.
    machine.standing = inkernel;
    machine.kept = disk;
    await clock.pass(CONFIRM_MS);
    await clock.pass(CONFIRM_MS);
    await keeper.check();
    expect(keeper.status()).toMatchObject({ stage: 'confirmed', standing: true, trouble: '' });
    expect(machine.isFor(confirmed ? '10.0.0.2' : '10.0.0.1')).toBe(true);
  });
  it.each(cases)('of unsealing ($step, done $done): sealed, or open, never between', async (at) => {
    const { machine, keeper } = await started();
    await sealed(keeper, '10.0.0.1');
    machine.failAt = { step: machine.steps + at.step, done: at.done };
    await keeper.order(removeFor(keeper)).catch(() => undefined);
    machine.failAt = undefined;
    const { keeper: next } = await started(machine);
    const open = next.status().stage === 'open';
    expect(machine.isFor('10.0.0.1')).toBe(!open);
    expect(machine.standing === undefined).toBe(open);
  });
});
