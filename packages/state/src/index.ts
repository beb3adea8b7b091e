/** What a node keeps: its home, its keys, its database and the event log. */
export * from './deployments.ts';
export * from './events.ts';
export * from './home.ts';
export * from './key-files.ts';
export * from './limits.ts';
export * from './membership.ts';
export * from './policies.ts';
export * from './settings.ts';
export * from './state.ts';
