// The pipes between an agent and its engine: everything that comes out of an engine is checked.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CHANNEL, CONTROL_BYTES_MAX, UNASKED_BYTES_MAX } from '../src/messages.ts';
import { parseFromEngine } from '../src/messages-schema.ts';
import {
  encodeControl,
  envelopeHeader,
  EnvelopeReader,
  type Envelope,
} from '../src/pipe/envelope.ts';

const SEED = Number(process.env['MINIKEEP_SEED'] ?? Date.now() % 2 ** 31);

const envelope = fc.record({
  channel: fc.constantFrom(CHANNEL.control, CHANNEL.frame),
  payload: fc.uint8Array({ maxLength: 400 }),
});

describe('envelopes', () => {
  it(`arrive whole, however the pipe cuts them (seed ${SEED})`, () => {
    fc.assert(
      fc.property(
        fc.array(envelope, { maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1 }),
        (envelopes, cuts) => {
          const all = Buffer.concat(
            envelopes.flatMap(({ channel, payload }) => [
              envelopeHeader(channel, payload.byteLength),
              payload,
            ]),
          );
          const reader = new EnvelopeReader();
          const got: Envelope[] = [];
          for (let at = 0, i = 0; at < all.length; i++) {
            const size = cuts[i % cuts.length] ?? 1;
            got.push(...reader.push(all.subarray(at, at + size)));
            at += size;
          }
          expect(got.map((e) => [e.channel, [...e.payload]])).toEqual(
            envelopes.map((e) => [e.channel, [...e.payload]]),
          );
        },
      ),
      { numRuns: 500, seed: SEED },
    );
  });

  it('of an engine that owes nothing are small', () => {
    let most = UNASKED_BYTES_MAX;
    const reader = new EnvelopeReader(() => most);
    const log = new Uint8Array(UNASKED_BYTES_MAX);
    reader.push(envelopeHeader(CHANNEL.control, log.byteLength));
    expect(reader.push(log)).toHaveLength(1);
    most = CONTROL_BYTES_MAX;
    const answer = new Uint8Array(UNASKED_BYTES_MAX + 1);
    reader.push(envelopeHeader(CHANNEL.control, answer.byteLength));
    most = UNASKED_BYTES_MAX;
    expect(reader.push(answer)).toHaveLength(1);
    expect(() => reader.push(envelopeHeader(CHANNEL.control, answer.byteLength))).toThrow(
      expect.objectContaining({ code: 'engine.pipe' }),
    );
  });

  it('with a size or channel that is none are refused at once', () => {
    const header = (length: number, channel: number): Uint8Array => {
      const bytes = new Uint8Array(5);
      new DataView(bytes.buffer).setUint32(0, length, true);
      bytes[4] = channel;
      return bytes;
    };
    for (const bad of [
      header(0, 0),
      header(2 ** 32 - 1, 1),
      header(CONTROL_BYTES_MAX + 2, 0),
      header(10, 2),
      header(10, 255),
    ])
      expect(() => new EnvelopeReader().push(bad)).toThrow(
        expect.objectContaining({ code: 'engine.pipe' }),
      );
  });
});

describe('messages of an engine', () => {
  it('are taken when they are ours', () => {
    const ready = {
      type: 'ready',
      n_vocab: 3,
      n_embd: 4,
      n_layer: 5,
      memory: { weights_bytes: 1, kv_bytes: 2, compute_bytes: 3 },
      load_seconds: 0.5,
    };
    expect(parseFromEngine(encodeControl(ready))).toEqual(ready);
  });

  it('are refused when they are not', () => {
    const ready = { type: 'ready', n_vocab: 3, n_embd: 4, n_layer: 5, load_seconds: 0.5 };
    const wrong: unknown[] = [
      null,
      [],
      'hello',
      { type: 'nothing' },
      { type: 'ready', n_vocab: -1 },
      { type: 'progress', fraction: 2 },
      { type: 'progress', fraction: 'half' },
      { type: 'text', id: 1, result: { op: 'tokenize', tokens: [1.5] } },
      { type: 'text', id: 1, result: { op: 'tokenize', tokens: [-1] } },
      {
        type: 'step_error',
        step: 2 ** 60,
        epoch: 0,
        error: { code: 'a.b', message: '', next: '' },
      },
      // What the agent could not put into a message of its own.
      {
        type: 'step_error',
        step: 1,
        epoch: 2 ** 32,
        error: { code: 'a.b', message: '', next: '' },
      },
      { ...ready, memory: { weights_bytes: 0.5, kv_bytes: 2, compute_bytes: 3 } },
    ];
    for (const message of wrong)
      expect(() => parseFromEngine(encodeControl(message))).toThrow(
        expect.objectContaining({ code: 'engine.pipe' }),
      );
    for (const bytes of [Uint8Array.of(), Uint8Array.of(0xff, 0xfe), Buffer.from('{"type":')])
      expect(() => parseFromEngine(bytes)).toThrow(
        expect.objectContaining({ code: 'engine.pipe' }),
      );
  });

  it('that are made to cost time and memory are refused before they do', () => {
    const most = CONTROL_BYTES_MAX - 100;
    const text = (tokens: string): string =>
      `{"type":"text","id":1,"result":{"op":"tokenize","tokens":[${tokens}]}}`;
    const costly = [
      '['.repeat(most),
      `{"type":"log","level":"info","text":"","more":${'['.repeat(most / 2 - 50)}`,
      `{"type":"log","level":"info","text":""${',"a":1'.repeat(most / 6 - 20)}}`,
      // As a fault for each element this took minutes and gigabytes.
      text(`${'"",'.repeat(most / 3 - 40)}0`),
    ];
    for (const json of costly) {
      const bytes = Buffer.from(json);
      const began = performance.now();
      expect(() => parseFromEngine(bytes)).toThrow(
        expect.objectContaining({ code: 'engine.pipe' }),
      );
      expect(performance.now() - began).toBeLessThan(15_000);
    }
    // What is counted are names and depth, not characters inside of strings.
    const message = '[{:"\\'.repeat(300);
    expect(parseFromEngine(encodeControl({ type: 'log', level: 'info', text: message }))).toEqual({
      type: 'log',
      level: 'info',
      text: message,
    });
  });

  it('have their texts cleaned: no escape codes, no new lines, no codes of their own making', () => {
    const message = parseFromEngine(
      encodeControl({
        type: 'fatal',
        error: { code: 'x; rm -rf', message: `a\u001b[2Jb\nc${'n'.repeat(10_000)}`, next: '' },
      }),
    );
    const error = message.type === 'fatal' ? message.error : undefined;
    expect(error?.code).toBe('engine.unknown');
    expect(error?.message).toMatch(/^a \[2Jb cn+$/);
    expect(error?.message).toHaveLength(4000);
  });
});
