/** What the root helper must not forget: the wall that was confirmed, and that another one waits for its confirmation. */
import { MinikeepError } from '@minikeep/protocol';
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { wishSchema } from './order.ts';

const wallSchema = z.strictObject({
  /** Of the order that asked for it. */
  order: z.string(),
  wish: wishSchema,
  sinceMs: z.number(),
});
const keptSchema = z.strictObject({
  version: z.literal(1),
  confirmed: wallSchema.optional(),
  pending: wallSchema.optional(),
});
export type KeptWall = z.infer<typeof wallSchema>;
export type Kept = z.infer<typeof keptSchema>;

export const NOTHING_KEPT: Kept = { version: 1 };

export interface KeptStore {
  /** Throws `seal.state_damaged`. */
  load(): Kept;
  /** Throws when it could not be written: then the old state holds. */
  save(kept: Kept): void;
}

export function keptFile(file: string): KeptStore {
  return {
    load() {
      let written: string;
      try {
        written = readFileSync(file, 'utf8');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return NOTHING_KEPT;
        throw error;
      }
      try {
        return keptSchema.parse(JSON.parse(written));
      } catch {
        throw damaged(file);
      }
    },
    save(kept) {
      const part = `${file}.new`;
      rmSync(part, { force: true });
      try {
        const fd = openSync(part, 'wx', 0o600);
        try {
          writeFileSync(fd, JSON.stringify(kept));
          fsyncSync(fd);
        } finally {
          closeSync(fd);
        }
        renameSync(part, file);
      } catch (error) {
        rmSync(part, { force: true });
        throw notWritten(file, error);
      }
      const folder = openSync(path.dirname(file), 'r');
      try {
        fsyncSync(folder);
      } finally {
        closeSync(folder);
      }
    },
  };
}

const damaged = (file: string): MinikeepError =>
  new MinikeepError('seal.state_damaged', `${file} is not what the root helper wrote`, {
    next: `The firewall is left as it is. If it should go: nft delete table inet minikeep, remove ${file}, and seal again.`,
  });
const notWritten = (file: string, cause: unknown): MinikeepError =>
  new MinikeepError('seal.state_not_written', `${file} could not be written: ${String(cause)}`, {
    next: 'Nothing was changed. Make room on that disk, and try again.',
    cause,
  });
