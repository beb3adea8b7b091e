/** Chooses the sandbox of this machine. Nothing else asks which platform it is. */
import { MinikeepError } from '@minikeep/protocol';
import type { SandboxPlatform } from './sandbox.ts';

/** Loaded on first use: the other platform's code and libraries are never touched. */
export function sandboxPlatform(platform: NodeJS.Platform = process.platform): SandboxPlatform {
  const load = async (): Promise<SandboxPlatform> => {
    if (platform === 'linux') return (await import('./linux/launch.ts')).linuxPlatform;
    if (platform === 'darwin') return (await import('./darwin/launch.ts')).darwinPlatform;
    throw new MinikeepError('sandbox.unsupported_platform', `no sandbox for ${platform}`, {
      next: 'Use Linux x86-64, or macOS 14 or newer with Apple Silicon.',
    });
  };
  return {
    support: async () => (await load()).support(),
    launch: async (spec) => (await load()).launch(spec),
    enforced: async (pid) => {
      const chosen = await load();
      return (
        (await chosen.enforced?.(pid)) ?? { state: 'unknown', finding: 'this system does not tell' }
      );
    },
    refusedOutside: async () => (await (await load()).refusedOutside?.()) ?? [],
  };
}
