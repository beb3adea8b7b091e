/** The stack file's schema as editors know it: of what is typed, not of what comes out. */
import { z } from 'zod';
import { STACK_SCHEMA } from './schema.ts';

export const stackJsonSchema = (): Record<string, unknown> => ({
  title: 'minikeep stack',
  ...z.toJSONSchema(STACK_SCHEMA, { io: 'input', target: 'draft-7' }),
});
