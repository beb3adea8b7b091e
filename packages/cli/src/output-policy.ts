/** The output guard's policies in the words of the command line. */
import { OutputPolicy } from '@minikeep/protocol/v1';
import { OUTPUT_POLICY_NAMES, type OutputPolicyName } from './output-policy-names.ts';

const MESSAGES: Readonly<Record<OutputPolicyName, OutputPolicy>> = {
  report: OutputPolicy.OUTPUT_POLICY_REPORT,
  defang: OutputPolicy.OUTPUT_POLICY_DEFANG,
  block: OutputPolicy.OUTPUT_POLICY_BLOCK,
};

export const outputPolicyMessage = (name: OutputPolicyName | undefined): OutputPolicy =>
  name === undefined ? OutputPolicy.OUTPUT_POLICY_UNSPECIFIED : MESSAGES[name];

/** What is not known counts as off. */
export const outputPolicyName = (message: OutputPolicy): OutputPolicyName =>
  OUTPUT_POLICY_NAMES.find((name) => MESSAGES[name] === message) ?? 'report';
