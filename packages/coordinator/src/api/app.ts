/**
 * What programs may ask over HTTP, in OpenAI's forms. Loopback can be reached by every program of this machine and,
 * through names that change their address, by any web page: so the Host must be an address of ours, and a browser's
 * Origin is refused.
 */
import { sealName } from '@minikeep/protocol/rpc';
import { DeploymentState } from '@minikeep/protocol/v1';
import type { HttpBindings } from '@hono/node-server';
import { Hono, type Context } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { streamSSE } from 'hono/streaming';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { Cluster } from '../cluster.ts';
import { guardedAnswer } from '../output/guarded-answer.ts';
import { completion, streamCompletion } from './chat.ts';
import { ApiError, asApiError, errorBody } from './errors.ts';
import { patientWrites } from './patient-write.ts';
import { places, type PlaceVariables } from './places.ts';
import { chatRequest, type ChatRequest } from './request.ts';

const BODY_BYTES_MAX = 8 * 2 ** 20;
const REQUESTS_MAX = 128;
/** A reader that takes nothing for so long is cut off. */
const STALLED_MS = 60_000;
const RETRY_AFTER_SECONDS = 5;
/** What is done about ways out in answers. */
const GUARD_HEADER = 'x-minikeep-output-guard';

interface Model {
  readonly id: string;
  readonly object: 'model';
  /** Not known: a deployment has no date of its model. */
  readonly created: 0;
  readonly owned_by: string;
}

interface ApiEnv extends PlaceVariables {
  Bindings: HttpBindings;
}

/** `hosts`: names and addresses under which the server may be asked, in lower case, without a port. */
export function apiApp(
  cluster: Cluster,
  hosts: () => ReadonlySet<string>,
  version: string,
): Hono<ApiEnv> {
  const app = new Hono<ApiEnv>();
  app.onError((thrown, context) => failed(context, asApiError(thrown)));
  app.notFound((context) =>
    failed(
      context,
      new ApiError(404, 'not_found', `there is no ${context.req.method} ${context.req.path} here`),
    ),
  );
  app.use(async (context, next) => {
    const host = hostOf(context.req.header('host') ?? '');
    if (!hosts().has(host))
      throw new ApiError(
        403,
        'host_refused',
        `this server is not asked as "${host.slice(0, 100)}"`,
      );
    if (context.req.header('origin') !== undefined)
      throw new ApiError(403, 'origin_refused', 'web pages may not ask this server');
    await next();
  });
  app.use('/v1/*', async (context, next) => {
    context.header(GUARD_HEADER, cluster.output.policy);
    context.header('x-minikeep-sealed', sealName(cluster.sealed()));
    await next();
  });
  app.get('/healthz', (context) => context.json({ status: 'ok', version }));
  const models = async (): Promise<Model[]> => {
    const { deployments } = await cluster.status();
    const up = deployments.filter((each) => each.state === DeploymentState.DEPLOYMENT_STATE_READY);
    return up.map(({ name }) => ({ id: name, object: 'model', created: 0, owned_by: 'minikeep' }));
  };
  app.get('/v1/models', async (context) => context.json({ object: 'list', data: await models() }));
  app.get('/v1/models/:id{.+}', async (context) => {
    const id = context.req.param('id');
    const found = (await models()).find((model) => model.id === id);
    if (found !== undefined) return context.json(found);
    throw new ApiError(404, 'model_not_found', `no model "${id.slice(0, 200)}" is up`, 'model');
  });
  app.post(
    '/v1/chat/completions',
    places(REQUESTS_MAX),
    bodyLimit({
      maxSize: BODY_BYTES_MAX,
      onError: (context) =>
        failed(
          context,
          new ApiError(413, 'too_large', `a request has at most ${BODY_BYTES_MAX / 2 ** 20} MiB`),
        ),
    }),
    async (context) => {
      const asked = chatRequest(await jsonOf(context));
      const ended = new AbortController();
      const signal = AbortSignal.any([context.req.raw.signal, ended.signal]);
      const answer = await begin(cluster, asked, signal);
      if (!asked.stream) return context.json(await completion(asked, answer));
      const release = context.get('place').keep();
      const { outgoing } = context.env;
      const writes = patientWrites(STALLED_MS, () => outgoing.destroy());
      return streamSSE(context, async (stream) => {
        // Who leaves frees the sequence at once.
        stream.onAbort(() => ended.abort());
        try {
          await streamCompletion(stream, asked, answer, writes);
        } finally {
          ended.abort();
          release();
        }
      });
    },
  );
  return app;
}

type Answer = ReturnType<typeof guardedAnswer>;

/** Up to the moment at which the request is accepted: what is wrong with it is found here. */
async function begin(cluster: Cluster, asked: ChatRequest, signal: AbortSignal): Promise<Answer> {
  const lease = await cluster.lease(asked.model, signal);
  const request = { ...asked.generate, deployment: asked.model };
  const answer = guardedAnswer(cluster, lease.deployment, request, signal);
  try {
    const first = await answer.next();
    return rest(answer, first, () => lease.release());
  } catch (thrown) {
    lease.release();
    throw thrown;
  }
}

async function* rest(
  answer: Answer,
  first: Awaited<ReturnType<Answer['next']>>,
  release: () => void,
): Answer {
  try {
    if (first.done !== true) yield first.value;
    yield* answer;
  } finally {
    release();
  }
}

async function jsonOf(context: Context): Promise<unknown> {
  const type = context.req.header('content-type') ?? '';
  // A form of a web page can't have this type without asking first (and is refused then).
  if (!/^application\/json\b/i.test(type))
    throw new ApiError(415, 'content_type', 'send JSON, with content-type: application/json');
  try {
    return JSON.parse(await context.req.text());
  } catch {
    throw new ApiError(400, 'invalid_json', 'the body is not JSON');
  }
}

function failed(context: Context, error: ApiError): Response {
  if (error.status === 429 || error.status === 503)
    context.header('Retry-After', String(RETRY_AFTER_SECONDS));
  return context.json(errorBody(error), error.status as ContentfulStatusCode);
}

function hostOf(header: string): string {
  return header
    .toLowerCase()
    .replace(/:\d*$/, '')
    .replace(/^\[|\]$/g, '');
}
