/** What the parts of the guard say to each other, and to whoever uses it. */

/**
 * `report`: nothing is changed, finds are told. `defang`: what would be fetched is shown, so that no renderer fetches
 * it. `block`: the answer ends at the first find.
 */
export const OUTPUT_POLICIES = ['report', 'defang', 'block'] as const;
export type OutputPolicy = (typeof OUTPUT_POLICIES)[number];

export type FindingKind =
  /** A markdown image: fetched by whoever shows it. */
  | 'image'
  | 'link'
  | 'html'
  /** An address in the text. */
  | 'url'
  /** A scheme that carries or runs something: data:, javascript: … */
  | 'scheme'
  | 'hidden'
  /** Characters that change the direction of what is read. */
  | 'direction'
  | 'encoded'
  /** What a terminal would act on. */
  | 'terminal';

/** Never the text itself: an answer may carry a prompt. */
export interface Finding {
  readonly kind: FindingKind;
  /** The last two labels of the host, where there is one. */
  readonly host: string;
  /** Characters that the find has. */
  readonly length: number;
}

/** What stands around the place that is looked at. */
export interface Around {
  /** The last characters before it, as the model wrote them. */
  readonly before: string;
  /** From it on; bounded. */
  readonly ahead: string;
  /** Nothing that comes later changes what is decided: the text ends there, or no more is ever waited for. */
  readonly complete: boolean;
}

export interface Match {
  /** Characters of `ahead` that it takes. */
  readonly length: number;
  /** What is shown in their place. */
  readonly shown: string;
  /** None: looked at and harmless, passed on as it is. */
  readonly finding?: FindingKind;
  /** Its host, where the match knows it; else it is read from what is covered. */
  readonly host?: string;
  /** What comes next is a host, up to its end. */
  readonly authority?: boolean;
  /** What comes next, up to a blank or a bracket, belongs to this find. */
  readonly covers?: boolean;
}

/** `more`: it can't be decided yet. undefined: nothing begins here. */
export type Verdict = Match | 'more' | undefined;
