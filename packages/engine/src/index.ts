/** What an agent needs of engines. The engine's own half is a program of its own (main.ts), never imported. */
export * from './messages.ts';
export { parseFromEngine } from './messages-schema.ts';
export { EngineClient, type EngineEvent, type ReadyMessage } from './client/engine-client.ts';
export {
  engineLibraries,
  programsFolder,
  startEngine,
  type StartEngine,
} from './client/start-engine.ts';
