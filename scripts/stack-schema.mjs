// Writes cluster-configs/stack.schema.json from the schema that reads the files; run it after changing that one.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { stackJsonSchema } from '../packages/planner/src/stack/json-schema.ts';
import { ROOT } from './setup.mjs';

writeFileSync(
  path.join(ROOT, 'cluster-configs/stack.schema.json'),
  `${JSON.stringify(stackJsonSchema(), null, 2)}\n`,
);
