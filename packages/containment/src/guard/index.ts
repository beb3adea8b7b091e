/** What a trusted process sees of its guard. */
export { type GuardClient, guardClient, type Guarding, guarding } from './client.ts';
export { connectListMessage } from './message.ts';
