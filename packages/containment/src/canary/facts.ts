/** Texts of the checklist with the facts of a run filled in. */
export type Facts = Readonly<Record<string, string | number>>;

/** Replaces every `{name}`; an unknown one is an error of the checklist. */
export function fill(text: string, facts: Facts): string {
  return text.replaceAll(/\{([a-z_]\w*)\}/g, (_, name: string) => {
    const value = facts[name];
    if (value === undefined) throw new Error(`the checklist names an unknown fact: ${name}`);
    return String(value);
  });
}
