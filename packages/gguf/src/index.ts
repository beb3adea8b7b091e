/** GGUF files: read, check, cut into slices, write. */
export * from './ggml-types.ts';
export * from './types.ts';
export * from './slice/facts.ts';
export type { Segment, SlicePlan } from './slice/types.ts';
export * from './metadata.ts';
export { openModel } from './model.ts';
export { parseHeader, type Header } from './header.ts';
export { FileSource, MemorySource, type ByteSource } from './source.ts';
export { describeModel, type ModelSummary } from './summary.ts';
export { modelDigest } from './digest.ts';
