/** What the agent and the coordinator need of the root helper. */
export type { SealerStatus, SealStage } from './keeper.ts';
export { orderDigest, signOrder, type SealOrder, type UnsignedOrder } from './order.ts';
export { askSealer } from './socket.ts';
