/** Errors in the form that OpenAI's clients read: a status, a code, and the field that is wrong. */
import { EXIT, toMinikeepError, type MinikeepError } from '@minikeep/protocol';

export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly param: string | null;

  constructor(status: number, code: string, message: string, param: string | null = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }
}

/** Ours → HTTP: who has to do something, the caller (4xx), later again (429, 503), or we (500). */
const STATUS: readonly [RegExp, number][] = [
  [/^deployment\.unknown$/, 404],
  [/^generate\.queue_full$/, 429],
  // The conversation does not go with this model: asking again changes nothing.
  [/^engine\.(template_refused|template|no_template|no_text|prompt_too_long)$/, 400],
  [/^(deployment|node|engine|sandbox|call|stream|pipeline)\./, 503],
  [/^generate\./, 400],
];

export function asApiError(thrown: unknown): ApiError {
  if (thrown instanceof ApiError) return thrown;
  const error = toMinikeepError(thrown);
  const status =
    STATUS.find(([code]) => code.test(error.code))?.[1] ??
    (error.exitCode === EXIT.usage ? 400 : 500);
  return new ApiError(status, error.code, sentence(error));
}

const sentence = (error: MinikeepError): string =>
  error.next === '' ? error.message : `${error.message}. ${error.next}`;

export function errorBody({ status, code, message, param }: ApiError): object {
  const type =
    status === 429 ? 'rate_limit_error' : status >= 500 ? 'server_error' : 'invalid_request_error';
  return { error: { message, type, param, code } };
}
