/** Answers operators about the output guard (proto/minikeep/v1/output_guard.proto). */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { OutputGuardServiceImplementation } from '@minikeep/protocol/v1';
import type { Cluster } from '../cluster.ts';
import { outputPolicyMessage, outputPolicyOf } from './output-setting.ts';

export const outputGuardService = ({ output }: Cluster): OutputGuardServiceImplementation => ({
  getOutputGuard: () =>
    Promise.resolve({ policy: outputPolicyMessage(output.policy), found: output.found }),
  setOutputGuard(request) {
    const policy = outputPolicyOf(request.policy);
    if (policy === undefined)
      throw new MinikeepError('output_guard.policy', 'no policy is named', {
        next: 'Choose one of: report, defang, block.',
        exitCode: EXIT.usage,
      });
    output.set(policy);
    return Promise.resolve({});
  },
});
