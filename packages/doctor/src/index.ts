export * from './facts.ts';
export { type Finding, type Level } from './finding.ts';
export { blocks, findingsOf, reportOf } from './findings.ts';
export { collectFacts, type CollectOptions } from './collect.ts';
export { MACHINE, type Answer, type Probe } from './probe.ts';
