/** What the keeper needs of a platform's firewall; in one transaction each, so that there is no moment without one. */
import type { Wall } from '@minikeep/containment/firewall';

export interface Standing {
  /** Of all rules as the kernel has them. */
  readonly digest: string;
  /** Packets, by chain, since the rules were set. */
  readonly dropped: Readonly<Record<string, number>>;
}

export interface Firewall {
  /** Instead of what stands. */
  set(wall: Wall): Promise<void>;
  remove(): Promise<void>;
  /** Undefined: nothing of ours stands. */
  read(): Promise<Standing | undefined>;
}
