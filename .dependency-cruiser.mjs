// DESIGN's arrows as rules: cli → tui, coordinator, agent → containment, engine, planner → gguf, protocol.
// Run by `npm test`; `node_modules/.bin/depcruise packages` shows the same.

/** Package → packages that its src/ may import. What is not listed is forbidden. */
const MAY_IMPORT = {
  protocol: [],
  'output-guard': [],
  gguf: ['protocol'],
  discovery: ['protocol'],
  state: ['protocol'],
  planner: ['gguf', 'protocol'],
  models: ['state', 'gguf', 'protocol'],
  bundle: ['gguf', 'protocol'],
  doctor: ['containment', 'engine', 'gguf', 'protocol'],
  service: ['doctor', 'protocol'],
  bootstrap: ['bundle', 'planner', 'gguf', 'protocol'],
  backup: ['models', 'state', 'protocol'],
  containment: ['gguf', 'protocol'],
  sealer: ['containment', 'protocol'],
  engine: ['gguf', 'protocol'],
  tui: ['protocol'],
  agent: [
    'bundle',
    'doctor',
    'containment',
    'discovery',
    'engine',
    'planner',
    'state',
    'gguf',
    'protocol',
  ],
  coordinator: [
    'containment',
    'engine',
    'models',
    'output-guard',
    'planner',
    'state',
    'gguf',
    'protocol',
  ],
  cli: [
    'tui',
    'bundle',
    'doctor',
    'backup',
    'service',
    'bootstrap',
    'discovery',
    'coordinator',
    'agent',
    'containment',
    'engine',
    'models',
    'planner',
    'state',
    'gguf',
    'protocol',
  ],
  testkit: [
    'agent',
    'bundle',
    'coordinator',
    'containment',
    'engine',
    'models',
    'planner',
    'state',
    'gguf',
    'protocol',
  ],
};

/** The agent's half of the engine names the sandbox's interface; it gets the sandbox itself passed in. */
const MAY_IMPORT_TYPES = { engine: ['containment'] };

const arrows = Object.entries(MAY_IMPORT).map(([name, allowed]) => ({
  name: `arrows-${name}`,
  comment: `packages/${name} may import ${allowed.join(', ') || 'no other package of ours'} (DESIGN, "Repository")`,
  severity: 'error',
  from: { path: `^packages/${name}/src/` },
  to: {
    path: '^packages/([^/]+)/',
    pathNot: [name, ...allowed, ...(MAY_IMPORT_TYPES[name] ?? [])].map((p) => `^packages/${p}/`),
  },
}));

const typesOnly = Object.entries(MAY_IMPORT_TYPES).map(([name, packages]) => ({
  name: `types-only-${name}`,
  comment: `packages/${name} may import types, and nothing else, from ${packages.join(', ')}`,
  severity: 'error',
  from: { path: `^packages/${name}/src/` },
  to: { path: `^packages/(${packages.join('|')})/`, dependencyTypesNot: ['type-only'] },
}));

export default {
  forbidden: [
    ...arrows,
    ...typesOnly,
    {
      name: 'testkit-only-from-tests',
      comment: 'random models and fakes are for tests and scripts',
      severity: 'error',
      from: { path: '^packages/(?!testkit)[^/]+/src/' },
      to: { path: '^packages/testkit/' },
    },
    {
      name: 'engines-in-process-only-from-testkit',
      comment: "what is shipped reads models in an engine's process, never in its own",
      severity: 'error',
      from: { path: '^packages/(?!testkit)[^/]+/src/' },
      to: { path: '^packages/engine/src/in-process' },
    },
    {
      name: 'source-imports-no-test',
      severity: 'error',
      from: { path: '^packages/[^/]+/src/' },
      to: { path: '(^|/)test/' },
    },
    {
      name: 'no-cycle',
      comment: 'a cycle hides which part stands on which',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'no-unresolved',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'declared-dependencies',
      comment:
        "a package imports only what its own package.json names, so that a bundle's list is true",
      severity: 'error',
      from: { path: '^packages/[^/]+/src/' },
      // Our own packages are links to folders: those that are not declared fail as unresolved.
      to: {
        dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'unknown', 'undetermined'],
        pathNot: '^(packages/|@minikeep/)',
      },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)(dist|fixtures)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    combinedDependencies: false,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      mainFields: ['module', 'main', 'types'],
    },
  },
};
