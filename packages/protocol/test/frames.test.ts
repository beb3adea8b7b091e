/** The wrapper around frames by hand must be protobuf; the stream must carry the largest frames and push back. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CertificateAuthority } from '../src/authority.ts';
import { MinikeepError } from '../src/errors.ts';
import { FRAME_BYTES_MAX } from '../src/frame.ts';
import { Frame } from '../src/generated/v1.ts';
import type { Identity, Role } from '../src/identity.ts';
import {
  FRAMES_METADATA,
  FRAME_WRAPPER_BYTES,
  FrameInlet,
  FrameLink,
  RawDataPlaneDefinition,
  accessInterceptor,
  listen,
  makeServer,
  peerOf,
  frameNumber,
  framePayload,
  numberFrame,
  unwrapFrame,
  wrapFrame,
  type CredentialPems,
} from '../src/rpc-index.ts';

const RUNS = process.env['MINIKEEP_LONG'] === '1' ? 100_000 : 5_000;

describe('the wrapper', () => {
  it('is what protobuf reads and writes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40_000 }), fc.boolean(), (payload, headroom) => {
        const room = new Uint8Array(payload.length + 9);
        room.set(payload, 9);
        const wrapped = wrapFrame(headroom ? room.subarray(9) : payload, headroom);
        expect(new Uint8Array(Frame.decode(wrapped).payload)).toEqual(payload);
        expect(new Uint8Array(unwrapFrame(wrapped))).toEqual(payload);
        if (payload.length > 0)
          expect(
            new Uint8Array(unwrapFrame(Frame.encode({ payload, number: 0 }).finish())),
          ).toEqual(payload);
      }),
      { numRuns: 500 },
    );
  });

  it('with a number is what protobuf reads and writes', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 40_000 }),
        fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
        (payload, number) => {
          const message = numberFrame(payload, number);
          const decoded = Frame.decode(message);
          expect([decoded.number, new Uint8Array(decoded.payload)]).toEqual([number, payload]);
          expect(frameNumber(message)).toBe(number);
          expect(new Uint8Array(framePayload(message))).toEqual(payload);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('a number taken off arbitrary bytes is one or frame.malformed', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.boolean(), (bytes, tagged) => {
        if (tagged && bytes.length > 0) bytes[0] = 0x11;
        try {
          expect(frameNumber(bytes)).toBeGreaterThanOrEqual(0);
          framePayload(bytes);
        } catch (error) {
          expect((error as { code: string }).code).toBe('frame.malformed');
        }
      }),
      { numRuns: RUNS },
    );
  });

  it('is put on in place where there is room', () => {
    const room = new Uint8Array(100).fill(7);
    const wrapped = wrapFrame(room.subarray(20), true);
    expect(wrapped.buffer).toBe(room.buffer);
    expect(wrapped.byteOffset).toBe(20 - FRAME_WRAPPER_BYTES);
    expect(room[20 - FRAME_WRAPPER_BYTES - 1]).toBe(7);
  });

  it('taken off arbitrary bytes gives a view or frame.malformed, nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.boolean(), (bytes, tagged) => {
        if (tagged && bytes.length > 0) bytes[0] = 0x0a;
        try {
          expect(unwrapFrame(bytes).byteOffset).toBeGreaterThan(bytes.byteOffset);
        } catch (error) {
          expect((error as { code: string }).code).toBe('frame.malformed');
        }
      }),
      { numRuns: RUNS },
    );
  });
});

const refused = (why: string): MinikeepError =>
  new MinikeepError('test.refused', why, { next: 'Nothing.' });

/** Frames of this size make the handler throw. */
const REFUSED = 4_321;

describe('a stream of frames', () => {
  const CLUSTER = 'frames-test';
  const RECEIVER: Identity = { cluster: CLUSTER, role: 'node', name: 'receiver' };
  let authority: CertificateAuthority;
  let port = 0;
  const server = makeServer();
  const received: number[] = [];
  const inlets = new Map<string, FrameInlet>();
  const callers: string[] = [];
  let release: () => void = () => {};
  let held: Promise<void> = Promise.resolve();

  async function pems(role: Role, name: string): Promise<CredentialPems> {
    const issued = await authority.issue(role, name);
    return {
      authority: authority.certificatePem,
      certificate: issued.certificatePem,
      privateKey: issued.privateKeyPem,
    };
  }

  beforeAll(async () => {
    authority = await CertificateAuthority.throwAway(CLUSTER, Date.now());
    server.add(RawDataPlaneDefinition, {
      async *frames(request, context) {
        const { deployment, epoch, session } = FRAMES_METADATA;
        const said = [deployment, epoch, session].map((key) => String(context.metadata.get(key)));
        callers.push([peerOf(context).name, ...said].join(' '));
        const sender = String(context.metadata.get(FRAMES_METADATA.sender));
        const inlet =
          inlets.get(sender) ??
          new FrameInlet({
            sender: 'sender',
            onLost: () => {},
            async take(frame) {
              if (frame.byteLength === REFUSED) throw refused('refused by the handler');
              await held;
              received.push(frame.byteLength);
            },
          });
        inlets.set(sender, inlet);
        if (inlet.over) throw refused('it is over');
        yield* inlet.serve(request, context);
      },
    });
    ({ port } = await listen(server, '127.0.0.1:0', await pems('node', 'receiver'), [
      accessInterceptor(CLUSTER, { 'minikeep.v1.DataPlaneService': ['node', 'coordinator'] }),
    ]));
  });
  afterAll(() => server.forceShutdown());

  async function open(role: Role, name: string): Promise<[FrameLink, Promise<Error | undefined>]> {
    let sender: FrameLink | undefined;
    const credentials = await pems(role, name);
    const ended = new Promise<Error | undefined>((resolve) => {
      sender = new FrameLink({
        ways: () => [`127.0.0.1:${port}`],
        credentials,
        neighbour: RECEIVER,
        deployment: 'd1',
        epoch: 7,
        session: 3,
        onEnd: resolve,
      });
    });
    return [sender!, ended];
  }

  it('is accepted, carries small and the largest frames, and ends', async () => {
    const [sender, ended] = await open('node', 'sender');
    await sender.accepted;
    expect(callers).toEqual(['sender d1 7 3']);
    sender.send(new Uint8Array(1));
    sender.send(new Uint8Array(FRAME_BYTES_MAX));
    sender.send(new Uint8Array(28 * 1024));
    await expect.poll(() => received.length, { timeout: 20_000 }).toBe(3);
    expect(received).toEqual([1, FRAME_BYTES_MAX, 28 * 1024]);
    sender.close();
    expect(await ended).toBeUndefined();
  });

  it('pushes back when the receiver does not read', async () => {
    held = new Promise((r) => (release = r));
    const [sender] = await open('node', 'sender');
    await sender.accepted;
    const chunk = new Uint8Array(1024 * 1024);
    let sent = 0;
    // Every window and buffer on the way holds less than this.
    while (sent < 200) {
      sent++;
      if (!sender.send(chunk)) {
        const drained = new Promise((r) => sender.onceDrained(() => r('drained')));
        if ((await Promise.race([drained, new Promise((r) => setTimeout(r, 700))])) !== 'drained')
          break;
      }
    }
    expect(sent).toBeLessThan(100);
    release();
    await expect.poll(() => received.length, { timeout: 20_000 }).toBe(3 + sent);
    sender.close();
  });

  it('keeps the order of frames that were sent before it was accepted', async () => {
    const before = received.length;
    const [sender] = await open('node', 'hasty');
    const sizes = Array.from({ length: 300 }, (_, i) => 100 + i);
    for (const [i, size] of sizes.entries()) {
      if (i === sizes.length / 2) await sender.accepted;
      sender.send(new Uint8Array(size));
    }
    await expect.poll(() => received.length, { timeout: 20_000 }).toBe(before + sizes.length);
    expect(received.slice(before)).toEqual(sizes);
    sender.close();
  });

  it.each([0, 3])('ends when the handler throws, after %i frames', async (frames) => {
    const before = received.length;
    const [sender, ended] = await open('node', 'refused');
    await sender.accepted;
    for (let i = 0; i < frames; i++) sender.send(new Uint8Array(1));
    await expect.poll(() => received.length, { timeout: 20_000 }).toBe(before + frames);
    sender.send(new Uint8Array(REFUSED));
    expect(await ended).toMatchObject({ code: 'pipeline.stream_lost' });
  });

  it('is refused to an operator, and the sender hears of it', async () => {
    const [sender, ended] = await open('operator', 'me');
    await expect(sender.accepted).rejects.toMatchObject({ code: 'pipeline.stream_lost' });
    expect(await ended).toMatchObject({ code: 'pipeline.stream_lost' });
    expect((await ended)?.message).toContain('may not call');
  });
});
