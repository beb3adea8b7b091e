/** Policies and quarantines in the database of the coordinator's home. */
import {
  liftQuarantine,
  readPolicies,
  readQuarantined,
  savePolicy,
  saveQuarantined,
  type State,
} from '@minikeep/state';
import type { PolicyStore } from './policies.ts';

export const homePolicies = (state: State): PolicyStore => ({
  policies: () => state.read(readPolicies),
  quarantined: () => state.read(readQuarantined),
  setPolicy: (name, value) => state.write((transaction) => savePolicy(transaction, name, value)),
  quarantine: (row, seen) => state.write((transaction) => saveQuarantined(transaction, row, seen)),
  lift(deployment) {
    state.write((transaction) => liftQuarantine(transaction, deployment));
  },
});
