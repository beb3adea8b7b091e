/** The output guard's policies as they are typed; apart from the protocol, for help comes at once. */
export const OUTPUT_POLICY_NAMES = ['report', 'defang', 'block'] as const;
export type OutputPolicyName = (typeof OUTPUT_POLICY_NAMES)[number];
