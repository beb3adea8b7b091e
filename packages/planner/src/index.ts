/** Where a model's layers go: pure functions from a model's facts and nodes to a placement. */
export * from './explain.ts';
export * from './facts.ts';
export * from './format.ts';
export * from './memory.ts';
export * from './network.ts';
export * from './place.ts';
export * from './raise.ts';
export * from './shapes/file-types.ts';
export * from './shapes/published.ts';
export * from './shapes/shape.ts';
export * from './shapes/shape-model.ts';
export { numbersOf, tensorsOf } from './shapes/tensors.ts';
export * from './stack/hardware.ts';
export * from './stack/nodes.ts';
export * from './stack/read-stack.ts';
export * from './stack/schema.ts';
export * from './types.ts';
