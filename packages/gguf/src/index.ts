/** GGUF files: read, check, cut into slices, write. */
export * from './ggml-types.ts';
export * from './types.ts';
export * from './slice/facts.ts';
export type { Segment, SlicePlan } from './slice/types.ts';
