/** The coordinator's end of the data plane: the last stage of each deployment sends its results here. */
import {
  EXIT,
  MinikeepError,
  PROTOCOL_VERSION,
  identityUri,
  toMinikeepError,
  type Identity,
} from '@minikeep/protocol';
import { FRAMES_METADATA, peerOf, takeFrames, type FramesHandler } from '@minikeep/protocol/rpc';

export interface ExpectedStream {
  readonly deployment: string;
  readonly epoch: number;
  readonly session: number;
  readonly from: Identity;
  onFrame(payload: Uint8Array): void;
  /** The stream is over before the deployment is. */
  onEnd(error: MinikeepError): void;
}

export class ResultStreams {
  readonly #expected = new Map<string, ExpectedStream & { attached: boolean }>();

  expect(stream: ExpectedStream): void {
    this.#expected.set(stream.deployment, { ...stream, attached: false });
  }

  forget(deployment: string, epoch: number): void {
    if (this.#expected.get(deployment)?.epoch === epoch) this.#expected.delete(deployment);
  }

  readonly handler: FramesHandler = (request, context) => this.#frames(request, context);

  async *#frames(...[request, context]: Parameters<FramesHandler>): ReturnType<FramesHandler> {
    const read = (key: string): string => String(context.metadata.get(key) ?? '');
    const peer = identityUri(peerOf(context));
    const deployment = read(FRAMES_METADATA.deployment);
    const stream = this.#expected.get(deployment);
    if (
      stream === undefined ||
      stream.attached ||
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
    stream.attached = true;
    const lost = (why: string): MinikeepError =>
      new MinikeepError(
        'pipeline.stream_lost',
        `the stream of results from ${stream.from.name} broke: ${why}`,
        {
          next: `Look at node ${stream.from.name}, then deploy again.`,
          exitCode: EXIT.unreachable,
          details: { node: stream.from.name },
        },
      );
    yield { received: 0 };
    try {
      await takeFrames(request, context, (payload) => stream.onFrame(payload));
      stream.onEnd(lost('it ended'));
    } catch (error) {
      stream.onEnd(lost(toMinikeepError(error).message));
    }
  }
}
