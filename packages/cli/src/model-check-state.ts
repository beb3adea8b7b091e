/** Whether a split model computes on a node what the whole does, as the doctor or the first `up` found there. */
import type { ModelCheck } from '@minikeep/protocol/v1';

/** For a column. */
export function exactnessOf(check: ModelCheck | undefined): string {
  if (check?.status === 'exact') return 'exact';
  return check?.status === 'differs' ? `differs by ${check.by.toPrecision(2)}` : 'not run';
}

export function checkDocument(check: ModelCheck | undefined): Record<string, unknown> {
  if (check === undefined) return { status: 'not_run' };
  const { status, by, backend, why, checkedAtSeconds } = check;
  return {
    status,
    ...(status === 'differs' ? { by } : {}),
    ...(status === 'not_run' ? { why } : { backend }),
    checked_at_seconds: checkedAtSeconds,
  };
}
