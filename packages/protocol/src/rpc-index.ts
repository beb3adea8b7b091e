/**
 * Everything that speaks gRPC. Not part of the package's main export: the engine's bundle, which runs untrusted files,
 * must hold no network code.
 */
export * from './access.ts';
export * from './addresses.ts';
export * from './credentials.ts';
export * from './frame-tap.ts';
export * from './collect-garbage.ts';
export * from './frame-inlet.ts';
export * from './frame-link.ts';
export { FrameStream, streamLost } from './frame-stream.ts';
export * from './frames.ts';
export * from './pieces.ts';
export * from './invite-token.ts';
export { linkService, probe, type Cost } from './link-probe.ts';
export * from './pinned.ts';
export * from './revocations.ts';
export * from './rpc.ts';
export * from './rpc-errors.ts';
export * from './folders.ts';
export * from './reaching.ts';
export { canaryName, connectListName, enforcedName, sealName } from './seal-names.ts';
export * from './log-head.ts';
