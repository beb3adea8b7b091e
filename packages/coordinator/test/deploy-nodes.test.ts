/** Who takes part in an `up` that names no nodes, and how those that don't are told of. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { expect, it } from 'vitest';
import { chooseNodes, leftOutMessages, withLeftOut } from '../src/deploy-nodes.ts';

const away = new MinikeepError('node.unreachable', "can't reach node c: connection refused", {
  next: 'Check that its agent runs.',
  exitCode: EXIT.unreachable,
});
const node = (name: string, up = true, draining = false) => ({
  name,
  up,
  draining,
  version: '1.0.0',
  error: up ? undefined : away,
});

it('nodes that are away or drained are left out, each with the reason', () => {
  const { used, leftOut } = chooseNodes(
    [node('a'), node('b', true, true), node('c', false)],
    '1.0.0',
  );
  expect(used).toEqual(['a']);
  expect(leftOutMessages(leftOut)).toMatchObject([
    { node: 'b', why: { code: 'node.draining' } },
    { node: 'c', why: { code: 'node.unreachable' } },
  ]);
});

it('a node of another version is left out, with which machine is to be updated', () => {
  const { used, leftOut } = chooseNodes([node('a'), { ...node('b'), version: '0.9.0' }], '1.0.0');
  expect(used).toEqual(['a']);
  expect(leftOut[0]?.why).toMatchObject({ code: 'version.mismatch', details: { older: 'node b' } });
  expect(leftOut[0]?.why.message).toMatch(/node b runs minikeep 0\.9\.0 .* runs 1\.0\.0/);
  const newer = chooseNodes([node('a'), { ...node('b'), version: '1.10.0' }], '1.0.0').leftOut;
  expect(newer.map(({ why }) => why.details['older'])).toEqual(['the coordinator']);
});

it('when nobody is there the error says who is missing and why', () => {
  const choose = () => chooseNodes([node('c', false)], '1.0.0');
  expect(choose).toThrow(expect.objectContaining({ code: 'deploy.no_nodes', exitCode: 4 }));
  expect(choose).toThrow("c (can't reach node c: connection refused)");
});

it('a model that fits nowhere is told with the nodes that could have helped; other errors stay', () => {
  const { leftOut } = chooseNodes([node('a'), node('c', false)], '1.0.0');
  const full = new MinikeepError('plan.does_not_fit', 'it needs 3 GiB more', { next: 'Buy.' });
  const told = withLeftOut(full, leftOut);
  expect(told).toMatchObject({ code: full.code, details: { left_out: 'c' } });
  expect(told.message).toContain('it needs 3 GiB more; left out: c');
  expect(told.next).toMatch(/when c is there.*Else: Buy\./);
  expect(withLeftOut(full, [])).toBe(full);
  expect(withLeftOut(away, leftOut)).toBe(away);
});
