/** What an agent needs of engines. The engine's own half is a program of its own (main.ts), never imported. */
export * from './messages.ts';
export { parseFromEngine } from './messages-schema.ts';
export {
  EngineClient,
  type EngineEvent,
  type HelloMessage,
  type ReadyMessage,
} from './client/engine-client.ts';
export {
  engineLibraries,
  programsFolder,
  startEngine,
  type StartEngine,
} from './client/start-engine.ts';
export {
  checkModel,
  ModelCheck,
  type CheckOptions,
  type CheckResult,
} from './check/check-model.ts';
export {
  Pipeline,
  type PipelineOptions,
  type StageFile,
  type StepInput,
} from './check/pipeline.ts';
export { stageFiles, wholeFile, type StageFilesOptions } from './check/stage-files.ts';
export { measureSpeed, type MeasureOptions, type Speed } from './check/measure.ts';
export { Script, singleSequence } from './check/script.ts';
export { differenceOf, rowsOf, type Difference } from './check/logits.ts';
