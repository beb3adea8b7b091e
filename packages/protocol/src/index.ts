export * from './errors.ts';
export * from './frame.ts';
export * from './frame-decode.ts';
export * from './frame-encode.ts';
export * from './sampling.ts';
export * from './limits.ts';
export * from './identity.ts';
