/** What macOS says of its memory, in the form that `vm_stat` prints (the page size stands in its header). */
import { describe, expect, it } from 'vitest';
import { parseVmStat } from '../src/local-memory.ts';

const VM_STAT = `Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            400000.
Pages inactive:                          300000.
Pages speculative:                         2000.
Pages throttled:                              0.
Pages wired down:                        150000.
Pages purgeable:                           3000.
"Translation faults":                 123456789.
`;

describe('memory of a Mac', () => {
  it('counts what only caches as free', () => {
    expect(parseVmStat(VM_STAT)).toBe((10_000 + 300_000 + 2_000 + 3_000) * 16_384);
    expect(parseVmStat(VM_STAT.replace('16384', '4096'))).toBe(315_000 * 4_096);
  });
  it('says nothing when it reads nothing', () => {
    for (const text of ['', 'vm_stat: error', 'Pages free: 10.'])
      expect(parseVmStat(text)).toBeUndefined();
  });
});
