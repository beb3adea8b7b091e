/** GGUF files: read, check, cut into slices, write. */
export * from './ggml-types.ts';
export * from './types.ts';
export * from './slice/facts.ts';
export type { PiecePlan, Segment, SlicePlan } from './slice/types.ts';
export * from './metadata.ts';
export { openModel } from './model.ts';
export { parseHeader, type Header } from './header.ts';
export { FileSource, MemorySource, type ByteSource } from './source.ts';
export { openUnchanged, type UnchangedSource } from './unchanged.ts';
export { describeModel, type ModelSummary } from './summary.ts';
export { modelDigest } from './digest.ts';
export type { ArchitectureRow } from './architectures/row.ts';
export { ARCHITECTURES } from './architectures/table.ts';
export {
  allowedCuts,
  architectureOf,
  checkCuts,
  layersToCut,
  rangeRefusal,
  rangesOf,
  summarise,
  windowPeriodOf,
} from './architectures/cuts.ts';
export { slides } from './architectures/windows.ts';
export { shapeOf, type ModelShape } from './architectures/shape.ts';
export { planSlices } from './slice/plan.ts';
export { PlanReader, sliceStream, type Planned } from './slice/stream.ts';
export * from './slice/chunks.ts';
export {
  digestPiece,
  fingerprintModel,
  sharedPieces,
  type Fingerprint,
} from './slice/fingerprint.ts';
export { PIECE_BYTES_MAX, PIECE_CHUNK_BYTES } from './limits.ts';
export {
  scalarKey,
  arrayKey,
  headerOf,
  layOut,
  type KeyEntry,
  type TensorEntry,
} from './write/layout.ts';
export { WindowWriter } from './write/window-writer.ts';
export { writeGguf, type TensorSource } from './write/writer.ts';
