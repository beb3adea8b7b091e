/** One refused call, before it becomes a record. */
import type { ViolationKind } from '../sandbox.ts';

export interface Attempt {
  readonly kind: ViolationKind;
  readonly operation: string;
  /** Escaped. */
  readonly target: string;
  /** Which thread asked. */
  readonly thread?: number;
  /** What it wanted to send. */
  readonly payload_bytes?: number;
  /** Answered with a decoy: more of it is to come. */
  readonly played?: true;
}

/** What the engine's thread gets. */
export type Answer =
  | { readonly do: 'continue' }
  | { readonly do: 'value'; readonly value: number }
  | { readonly do: 'errno'; readonly errno: number }
  /** The warden's descriptor is copied into the engine, then closed here. */
  | {
      readonly do: 'descriptor';
      readonly fd: number;
      readonly close_on_exec: boolean;
      /** Told the number that the descriptor got in the engine. */
      readonly given: (engineFd: number) => void;
    };

export interface Decision {
  readonly answer: Answer;
  readonly attempt?: Attempt;
  /** A file that is handed over, for the list of what the engine read. */
  readonly hands_over?: string;
}

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EBADF: 9,
  EAGAIN: 11,
  EACCES: 13,
  EFAULT: 14,
  ENOTDIR: 20,
  EINVAL: 22,
  EMFILE: 24,
  EROFS: 30,
  ENOSYS: 38,
  ENOTSOCK: 88,
  EMSGSIZE: 90,
  EAFNOSUPPORT: 97,
  ECONNREFUSED: 111,
} as const;

export const fails = (errno: number, attempt?: Attempt): Decision =>
  attempt === undefined
    ? { answer: { do: 'errno', errno } }
    : { answer: { do: 'errno', errno }, attempt };
export const returns = (value: number, attempt?: Attempt): Decision =>
  attempt === undefined
    ? { answer: { do: 'value', value } }
    : { answer: { do: 'value', value }, attempt };
export const CONTINUE: Decision = { answer: { do: 'continue' } };
