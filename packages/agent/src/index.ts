/** The node daemon; its process is main.ts. */
export type { AgentConfig } from './config.ts';
export { platformFor } from './platform.ts';
