/** The node's end of the frame streams: who opened it is checked once, then frames go to the stage as they are. */
import { EXIT, MinikeepError, PROTOCOL_VERSION } from '@minikeep/protocol';
import { FRAMES_METADATA, peerOf, type FramesHandler } from '@minikeep/protocol/rpc';
import type { Hosts } from './hosts.ts';

export function dataPlane(hosts: Hosts): FramesHandler {
  return async function* frames(request, context) {
    const read = (key: string): string => String(context.metadata.get(key) ?? '');
    if (read(FRAMES_METADATA.version) !== String(PROTOCOL_VERSION))
      throw new MinikeepError('version.mismatch', 'the neighbour speaks another version', {
        next: 'Install the same version of minikeep on every node.',
      });
    const peer = peerOf(context);
    const epoch = Number(read(FRAMES_METADATA.epoch));
    const session = Number(read(FRAMES_METADATA.session));
    const { stage } = hosts.find(read(FRAMES_METADATA.deployment));
    if (stage === undefined)
      throw new MinikeepError('access.denied', 'frames refused: there is no stage here', {
        next: 'Only the neighbour of the current epoch may send frames.',
        exitCode: EXIT.denied,
      });
    const inlet = stage.inletFor(peer, epoch, session, read(FRAMES_METADATA.sender));
    yield* inlet.serve(request, context);
  };
}
