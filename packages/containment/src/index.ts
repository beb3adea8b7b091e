/** What the rest of minikeep sees of the sandbox: one platform interface, and the canary that tries it. */
export type {
  CanaryAttempt,
  CanaryGroup,
  CanaryInspection,
  CanaryItem,
  CanaryPhase,
  CanaryReport,
  CanaryState,
  Declared,
} from './canary/types.ts';
export { type CanaryOptions, runCanary } from './canary/run.ts';
export * from './platform.ts';
export * from './sandbox.ts';
