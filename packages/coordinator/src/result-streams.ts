/** The coordinator's end of the data plane: the last stage of each deployment sends its results here. */
import {
  EXIT,
  MinikeepError,
  PROTOCOL_VERSION,
  identityUri,
  type Identity,
} from '@minikeep/protocol';
import { FRAMES_METADATA, FrameInlet, peerOf, type FramesHandler } from '@minikeep/protocol/rpc';

export interface ExpectedStream {
  readonly deployment: string;
  readonly epoch: number;
  readonly session: number;
  readonly from: Identity;
  onFrame(payload: Uint8Array): void;
  /** Nothing comes any more, before the deployment is over. */
  onEnd(error: MinikeepError): void;
}

export class ResultStreams {
  readonly #expected = new Map<string, ExpectedStream & { readonly inlet: FrameInlet }>();

  expect(stream: ExpectedStream): void {
    const { deployment, from } = stream;
    this.#expected.get(deployment)?.inlet.close(over(deployment));
    const inlet = new FrameInlet({
      sender: from.name,
      take: (payload) => stream.onFrame(payload),
      onLost: (error) => stream.onEnd(lost(from.name, error.message)),
    });
    this.#expected.set(deployment, { ...stream, inlet });
  }

  forget(deployment: string, epoch: number): void {
    const expected = this.#expected.get(deployment);
    if (expected?.epoch !== epoch) return;
    expected.inlet.close(over(deployment));
    this.#expected.delete(deployment);
  }

  readonly handler: FramesHandler = (request, context) => this.#frames(request, context);

  async *#frames(...[request, context]: Parameters<FramesHandler>): ReturnType<FramesHandler> {
    const read = (key: string): string => String(context.metadata.get(key) ?? '');
    const peer = identityUri(peerOf(context));
    const deployment = read(FRAMES_METADATA.deployment);
    const sender = read(FRAMES_METADATA.sender);
    const stream = this.#expected.get(deployment);
    if (
      stream === undefined ||
      stream.inlet.over ||
      (stream.inlet.senderId ?? sender) !== sender ||
      peer !== identityUri(stream.from) ||
      read(FRAMES_METADATA.epoch) !== String(stream.epoch) ||
      read(FRAMES_METADATA.session) !== String(stream.session) ||
      read(FRAMES_METADATA.version) !== String(PROTOCOL_VERSION)
    )
      throw new MinikeepError(
        'access.denied',
        `results of ${deployment.slice(0, 64)} from ${peer} are not expected`,
        {
          next: 'Only the last stage of the current epoch may send results.',
          exitCode: EXIT.denied,
        },
      );
    yield* stream.inlet.serve(request, context);
  }
}

function lost(node: string, why: string): MinikeepError {
  return new MinikeepError(
    'pipeline.stream_lost',
    `the stream of results from ${node} broke: ${why}`,
    {
      next: `Look at node ${node}, then deploy again.`,
      exitCode: EXIT.unreachable,
      details: { node },
    },
  );
}

const over = (deployment: string): MinikeepError =>
  new MinikeepError('pipeline.stale_session', `${deployment} is over, or connected anew`, {
    next: 'See `minikeep status`.',
  });
