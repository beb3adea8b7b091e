/** What is wanted, on the disk: as it was written after a new start, and never an epoch back. */
import { ExactMode } from '@minikeep/protocol/v1';
import { Home, State } from '@minikeep/state';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { homeStore } from '../src/reconcile/home-store.ts';
import type { WantedDeployment } from '../src/reconcile/types.ts';
import { placementOn, sent } from './reconcile-world.ts';

let folder: string;
let home: Home;
let state: State;
const open = (): void => {
  home = Home.open(folder);
  state = State.open(home, () => 1);
};
const close = (): void => {
  state.close();
  home.close();
};
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-wanted-'));
  open();
  state.write(({ database }) => {
    database.exec("INSERT INTO models VALUES ('m', zeroblob(32), '/m.gguf', 1, 'llama', 0)");
  });
});
afterEach(() => {
  close();
  rmSync(folder, { recursive: true });
});

function row(change: Partial<WantedDeployment> = {}): WantedDeployment {
  const placed = sent(placementOn(['a', 'b']));
  const context = { ...placed.context, mode: ExactMode.EXACT_MODE_EXACT };
  const placement = { ...placed, context, text: true, textSha256: 'text' };
  return { name: 'm', model: 'm', epoch: 3, wanted: 'up', placement, ...change };
}

const save = (...rows: WantedDeployment[]): void =>
  homeStore(state).save({ rows, draining: new Map() });

it('is there after a new start, word for word', () => {
  save(row());
  close();
  open();
  expect(homeStore(state).rows()).toEqual([row()]);
  expect(state.events(1, 10).map((event) => event.kind)).toEqual([
    'deployment.wanted',
    'deployment.epoch',
  ]);
});

it('takes no epoch back, and of several changes all or none', () => {
  save(row());
  const changes = [row({ epoch: 4, wanted: 'down' }), row({ epoch: 2 })];
  expect(() => save(...changes)).toThrow('epoch 2 of m after 4');
  expect(homeStore(state).rows()).toEqual([row()]);
  save(row({ epoch: 4, wanted: 'down' }));
  expect(homeStore(state).rows()).toMatchObject([{ epoch: 4, wanted: 'down' }]);
});

it('says what is wrong with a placement of another version', () => {
  save(row());
  state.write(({ database }) => {
    database.exec(`UPDATE deployments SET placement = '{"stages":[]}'`);
  });
  expect(() => homeStore(state).rows()).toThrow(
    expect.objectContaining({ code: 'state.placement_invalid' }),
  );
});
