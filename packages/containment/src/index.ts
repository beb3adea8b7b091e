export * from './platform.ts';
export * from './sandbox.ts';
