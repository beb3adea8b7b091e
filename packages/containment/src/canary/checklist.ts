/** Every known way out, as data: CONTAINMENT's checklist and the attacks that the warden was hardened against. */
import { DARWIN_FILES } from './items/darwin-files.ts';
import { DARWIN_NETWORK } from './items/darwin-network.ts';
import { DARWIN_PROGRAMS } from './items/darwin-programs.ts';
import { LINUX_FILES } from './items/linux-files.ts';
import { LINUX_KERNEL } from './items/linux-kernel.ts';
import { LINUX_INSPECTED, LINUX_MEMORY } from './items/linux-memory.ts';
import { LINUX_NETWORK } from './items/linux-network.ts';
import { LINUX_PROGRAMS } from './items/linux-programs.ts';
import type { CanaryItem, CanaryPlatform } from './types.ts';

export const CHECKLIST: readonly CanaryItem[] = [
  ...LINUX_INSPECTED,
  ...LINUX_NETWORK,
  ...LINUX_PROGRAMS,
  ...LINUX_KERNEL,
  ...LINUX_FILES,
  ...LINUX_MEMORY,
  ...DARWIN_NETWORK,
  ...DARWIN_PROGRAMS,
  ...DARWIN_FILES,
];

export const checklistFor = (platform: CanaryPlatform): CanaryItem[] =>
  CHECKLIST.filter((item) => item.platforms.includes(platform));
