/** The members' side of enrolment.proto and operator.proto: what strangers, nodes and operators may ask. */
import { PROTOCOL_VERSION, versionMismatch, type MinikeepError } from '@minikeep/protocol';
import { hostOf, peerOf, peerAddressesOf, peerSerialOf } from '@minikeep/protocol/rpc';
import type {
  EnrolmentServiceImplementation,
  EventsRequest,
  EventsResponse,
  MembershipServiceImplementation,
} from '@minikeep/protocol/v1';
import type { State } from '@minikeep/state';
import type { Members } from './members.ts';

const EVENTS_COUNT_MAX = 10_000;

export function enrolmentService(
  members: Members,
  version: string,
): EnrolmentServiceImplementation {
  return {
    async join(request) {
      const who = `the machine that joins as ${request.name.slice(0, 63)}`;
      const other = otherProtocol(who, request, version);
      if (other !== undefined) {
        members.logRefusal({
          why: 'version',
          name: request.name,
          version: request.minikeepVersion,
        });
        throw other;
      }
      return members.join(request);
    },
  };
}

export function membershipService(
  members: Members,
  version: string,
  addresses: () => string[],
  /** Which process of that node answers where it was last heard of. */
  answering: (node: string) => Promise<string | undefined>,
): MembershipServiceImplementation {
  return {
    async announce(request, context) {
      const { name } = peerOf(context);
      const mismatch = otherProtocol(`node ${name}`, request, version);
      members.refusedAs(name, mismatch);
      if (mismatch !== undefined) throw mismatch;
      if (request.leaving) members.leaves(name, request.instance);
      // A node that was killed, or lost power, said nothing when it ended: whoever takes its place is no copy.
      const other = members.otherInstance(name, request.instance);
      if (other !== undefined && (await answering(name)) !== other) members.leaves(name, other);
      const { renew, announceSeconds } = request.leaving
        ? { renew: false, announceSeconds: 0 }
        : members.announce(name, request, {
            host: hostOf(context.peer),
            serial: peerSerialOf(context),
            named: peerAddressesOf(context),
          });
      return {
        coordinatorAddresses: addresses(),
        revoked: members.revoked(),
        nowSeconds: Date.now() / 1000,
        renew,
        announceSeconds,
      };
    },
    async renew(request, context) {
      const { name } = peerOf(context);
      return { certificatePem: await members.renew(name, request.certificateRequestPem) };
    },
  };
}

/** Entries of the event log from a number on, or the newest ones; with `follow` until the caller leaves. */
export async function* events(
  state: State,
  request: EventsRequest,
  signal: AbortSignal,
): AsyncGenerator<EventsResponse, void, undefined> {
  const count = Math.min(request.count || EVENTS_COUNT_MAX, EVENTS_COUNT_MAX);
  let next = request.from > 0 ? request.from : Math.max(1, state.lastEvent() - count + 1);
  let left = request.follow ? Infinity : count;
  while (!signal.aborted) {
    const grown = Promise.withResolvers<void>();
    // Asked for before the page is read: nothing that comes in between is missed.
    const stop = state.onEvents(() => grown.resolve());
    signal.addEventListener('abort', () => grown.resolve(), { once: true });
    try {
      const page = state.events(next, left);
      for (const event of page) {
        yield {
          number: event.number,
          atSeconds: event.atMs / 1000,
          kind: event.kind,
          dataJson: JSON.stringify(event.data),
          digest: Buffer.from(event.digest).toString('hex'),
        };
        next = event.number + 1;
        left -= 1;
      }
      if (page.length === 0) {
        if (!request.follow) return;
        await grown.promise;
      }
      if (left <= 0) return;
    } finally {
      stop();
    }
  }
}

/** Undefined: both speak the same protocol. */
function otherProtocol(
  who: string,
  theirs: { readonly protocolVersion: number; readonly minikeepVersion: string },
  version: string,
): MinikeepError | undefined {
  if (theirs.protocolVersion === PROTOCOL_VERSION) return undefined;
  return versionMismatch(
    { who, version: theirs.minikeepVersion, protocol: theirs.protocolVersion },
    { who: 'the coordinator', version, protocol: PROTOCOL_VERSION },
  );
}
