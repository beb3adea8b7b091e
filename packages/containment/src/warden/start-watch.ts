/** The agent's wait for a start: remembers how far it has come, and says where it hangs. */
import { MinikeepError } from '@minikeep/protocol';
import { START_STEPS, type StartStep } from './control.ts';
import { START_MS_MAX, START_SILENCE_MS_MAX } from './limits.ts';
import { LOOK_MS, Patience, type PatienceLimits } from '@minikeep/protocol/patience';

export const START_PATIENCE: PatienceLimits = {
  silence_ms_max: START_SILENCE_MS_MAX,
  total_ms_max: START_MS_MAX,
};

function startTimeout(step: StartStep, silent: boolean, limits: PatienceLimits): MinikeepError {
  const where = `the last step was: ${START_STEPS[step]}`;
  return silent
    ? new MinikeepError(
        'sandbox.start_timeout',
        `the start of the sandbox hangs: for ${limits.silence_ms_max / 1000} s nothing went on; ${where}`,
        {
          next: 'Run `minikeep canary`: it tries a sandbox and shows what this machine can enforce.',
          details: { step },
        },
      )
    : new MinikeepError(
        'sandbox.start_timeout',
        `the sandbox did not start within ${limits.total_ms_max / 1000} s; ${where}`,
        { next: 'Try again when the machine is less busy.', details: { step } },
      );
}

export interface StartWatch {
  readonly step: (step: StartStep, pid?: number) => void;
  readonly close: () => void;
}

/** `onTimeout` is called at most once. */
export function watchStart(
  onTimeout: (error: MinikeepError) => void,
  limits: PatienceLimits = START_PATIENCE,
): StartWatch {
  let last: StartStep = 'warden';
  const patience = new Patience(limits, performance.now());
  const timer = setInterval(() => {
    const verdict = patience.look(performance.now());
    if (verdict === 'wait') return;
    clearInterval(timer);
    onTimeout(startTimeout(last, verdict === 'silent', limits));
  }, LOOK_MS);
  return {
    step: (step, stepPid) => {
      last = step;
      patience.progress(stepPid);
    },
    close: () => clearInterval(timer),
  };
}
