/** The canary on this node, one run at a time, as a stream of what it tried. */
import type { SandboxPlatform } from '@minikeep/containment';
import type { CanaryResponse } from '@minikeep/protocol/v1';
import { MinikeepError } from '@minikeep/protocol';
import type { AgentConfig } from './config.ts';

export interface NodeCanary {
  run(signal: AbortSignal): AsyncIterable<CanaryResponse>;
}

export function nodeCanary(_platform: SandboxPlatform, _config: AgentConfig): NodeCanary {
  return {
    run() {
      throw new MinikeepError('canary.unsupported', 'this build has no canary', {
        next: 'Build a version that has it.',
      });
    },
  };
}
