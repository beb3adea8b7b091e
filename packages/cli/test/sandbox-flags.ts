/** Flags of every run in these tests: none, so that engines are in their sandbox as they are for a user. */
export const SANDBOX_FLAGS: readonly string[] = [];
