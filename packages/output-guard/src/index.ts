/** The output guard: finds and defangs ways out of an answer while it is streamed. */
export { OutputGuard, type Guarded } from './guard.ts';
export { OUTPUT_POLICIES, type Finding, type FindingKind, type OutputPolicy } from './types.ts';
