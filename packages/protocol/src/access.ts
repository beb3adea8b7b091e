/**
 * Who may call what. Runs before any handler and before any message is read: a caller without the role is answered
 * PERMISSION_DENIED, and handlers read the caller's identity from metadata that only this file can have written.
 */
import {
  Metadata as GrpcMetadata,
  ServerInterceptingCall,
  ServerListenerBuilder,
  status,
  type ServerInterceptor,
  type StatusObject,
} from '@grpc/grpc-js';
import type { CallContext } from 'nice-grpc-common';
import { EXIT, MinikeepError } from './errors.ts';
import { addressesOfSubjectAltName } from './addresses.ts';
import {
  identityOfSubjectAltName,
  identityUri,
  parseIdentityUri,
  type Identity,
  type Role,
} from './identity.ts';
import { normalSerial, type Revocations } from './revocations.ts';
import { errorTrailer } from './rpc-errors.ts';
import { unproven } from './strangers.ts';

const PEER_KEY = 'minikeep-peer';
const SERIAL_KEY = 'minikeep-peer-serial';
const ADDRESSES_KEY = 'minikeep-peer-addresses';

/** Full service name (`minikeep.v1.AgentService`) → roles that may call it. What is not listed is refused to all. */
export type AccessRules = Readonly<Record<string, readonly Role[]>>;

export interface AccessOptions {
  /** Hears of each refusal (for the log). */
  readonly onRefused?: (refusal: { readonly path: string; readonly peer: string }) => void;
  /** Certificates that are shut out, with the calls that they run. */
  readonly revocations?: Revocations;
}

/** The interceptor for one server of the cluster. */
export function accessInterceptor(
  cluster: string,
  rules: AccessRules,
  { onRefused, revocations }: AccessOptions = {},
): ServerInterceptor {
  return (descriptor, call) => {
    const certificate = call.getAuthContext().sslPeerCertificate;
    const peer = identityOfSubjectAltName(certificate?.subjectaltname);
    const service = descriptor.path.split('/')[1] ?? '';
    const serial = certificate?.serialNumber ?? '';
    const removed = revocations?.has(serial) === true;
    const allowed =
      !removed &&
      peer !== undefined &&
      peer.cluster === cluster &&
      Object.hasOwn(rules, service) &&
      (rules[service] ?? []).includes(peer.role);
    if (!allowed) {
      const name = peer === undefined ? 'a caller without an identity' : identityUri(peer);
      onRefused?.({ path: descriptor.path, peer: name });
      return new ServerInterceptingCall(call, {
        start: (next) =>
          next(
            new ServerListenerBuilder()
              .withOnReceiveMetadata(() => call.sendStatus(refusal(service, name, removed)))
              .withOnReceiveMessage(() => {})
              .withOnReceiveHalfClose(() => {})
              .build(),
          ),
      });
    }
    unproven.proven(call.getPeer());
    // A call that is being ended by revocation must send nothing else.
    let shutOut = false;
    const over = revocations?.begin(serial, () => {
      shutOut = true;
      call.sendStatus(refusal(service, identityUri(peer), true));
    });
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next(
          new ServerListenerBuilder()
            .withOnReceiveMetadata((metadata, forward) => {
              metadata.set(PEER_KEY, identityUri(peer));
              metadata.set(SERIAL_KEY, normalSerial(serial));
              const addresses = addressesOfSubjectAltName(certificate?.subjectaltname);
              metadata.set(ADDRESSES_KEY, addresses.join(' '));
              forward(metadata);
            })
            // Comes at the end of every call, cancelled or not.
            .withOnCancel(() => over?.())
            .build(),
        ),
      sendMessage: (message, next) => {
        if (!shutOut) next(message);
      },
      sendStatus: (status, next) => {
        if (!shutOut) next(status);
      },
    });
  };
}

function refusal(
  service: string,
  peer: string,
  removed: boolean,
): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const error = removed
    ? new MinikeepError('access.removed', `${peer} was removed from the cluster`, {
        next: 'Join again with a new token: minikeep invite on the first node, minikeep join here.',
        exitCode: EXIT.denied,
      })
    : new MinikeepError('access.denied', `${peer} may not call ${service}`, {
        next: 'Use a certificate with the role for this: operators call the coordinator, the coordinator calls agents.',
        exitCode: EXIT.denied,
      });
  const metadata = new GrpcMetadata();
  const [key, value] = errorTrailer(error);
  metadata.set(key, Buffer.from(value));
  return { code: status.PERMISSION_DENIED, details: error.message, metadata };
}

/** The caller's identity inside a handler. */
export function peerOf(context: CallContext): Identity {
  const peer = parseIdentityUri(context.metadata.get(PEER_KEY) ?? '');
  if (peer === undefined)
    throw new MinikeepError('access.denied', 'the caller has no identity', {
      next: 'This server was started without access rules: report this fault.',
      exitCode: EXIT.denied,
    });
  return peer;
}

/** The serial number of the caller's certificate, lower-case hex without leading zeroes. */
export const peerSerialOf = (context: CallContext): string =>
  context.metadata.get(SERIAL_KEY) ?? '';

/** The addresses that the caller's certificate names. */
export const peerAddressesOf = (context: CallContext): string[] =>
  (context.metadata.get(ADDRESSES_KEY) ?? '').split(' ').filter((address) => address !== '');
