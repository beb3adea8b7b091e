/** Sizes as people write them: "24 GiB", "273 GB", or a number of bytes. */
import { z } from 'zod';

const SIZE = /^(\d{1,12}(?:\.\d{1,6})?)\s*(KiB|MiB|GiB|TiB|KB|MB|GB|TB|B)$/;
const FACTORS: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
};

/** Bytes, or undefined when the text is no size. */
export function parseSize(size: number | string): number | undefined {
  const match = SIZE.exec(String(size).trim());
  const value =
    typeof size === 'number'
      ? size
      : Number(match?.[1]) * (FACTORS[match?.[2] ?? ''] ?? Number.NaN);
  return Number.isFinite(value) && value >= 1 && value <= Number.MAX_SAFE_INTEGER
    ? Math.round(value)
    : undefined;
}

/** A size in a file: the schema's input is the text, its output bytes. */
export const SIZE_FIELD = z
  .union([z.number().positive(), z.string().regex(SIZE, 'is no size: write for example 24 GiB')], {
    error: 'is no size: write for example 24 GiB',
  })
  .transform((size, ctx) => {
    const value = parseSize(size);
    if (value !== undefined) return value;
    ctx.addIssue({ code: 'custom', message: 'is no size: write for example 24 GiB' });
    return z.NEVER;
  });
