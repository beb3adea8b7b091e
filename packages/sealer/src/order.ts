/**
 * What the root helper is told to do, signed by the cluster's authority: nobody else on the machine may open or close its
 * firewall, the agent that carries the order neither. `apply` and `remove` name a number that the helper drew itself and
 * takes once, so that an order kept by somebody is of no use later; `confirm` names the order that is to stay, `undo` the one that waits no longer.
 */
import { createHash, sign, verify, X509Certificate } from 'node:crypto';
import { z } from 'zod';

const TEXT_MAX = 255;
const LIST_MAX = 2_048;
const text = z.string().max(TEXT_MAX);
const list = z.array(text).max(LIST_MAX);

/** Only its form; what is in it is judged by `wallOf`. */
export const wishSchema = z.strictObject({
  peers: list,
  ports: z.array(z.number()).max(LIST_MAX),
  api: z.strictObject({ port: z.number(), clients: list }).optional(),
  admins: list,
  sshPort: z.number(),
  discovery: z.boolean(),
});

const hex32 = z.string().regex(/^[0-9a-f]{64}$/);
const forWhom = { cluster: text.min(1), node: text.min(1) };

const unsignedSchema = z.discriminatedUnion('verb', [
  z.strictObject({ verb: z.literal('apply'), ...forWhom, nonce: hex32, wish: wishSchema }),
  z.strictObject({ verb: z.literal('confirm'), ...forWhom, order: hex32 }),
  z.strictObject({ verb: z.literal('undo'), ...forWhom, order: hex32 }),
  z.strictObject({ verb: z.literal('remove'), ...forWhom, nonce: hex32 }),
]);
export type UnsignedOrder = z.infer<typeof unsignedSchema>;

export const orderSchema = z.strictObject({
  /** JSON of an unsigned order: these bytes are what is signed. */
  text: z.string().max(2 ** 18),
  signature: z.base64().max(1_024),
});
export type SealOrder = z.infer<typeof orderSchema>;

const HEADING = 'minikeep seal order 1\n';

/** `key`: the authority's, PEM. */
export function signOrder(order: UnsignedOrder, key: string): SealOrder {
  const written = JSON.stringify(order);
  const signature = sign('sha256', Buffer.from(HEADING + written), key).toString('base64');
  return { text: written, signature };
}

/** What was signed; undefined unless the authority (its certificate, PEM) did, and it has the form of an order. */
export function openOrder(order: SealOrder, authority: string): UnsignedOrder | undefined {
  const { publicKey } = new X509Certificate(authority);
  try {
    const signature = Buffer.from(order.signature, 'base64');
    if (!verify('sha256', Buffer.from(HEADING + order.text), publicKey, signature))
      return undefined;
    return unsignedSchema.parse(JSON.parse(order.text));
  } catch {
    return undefined;
  }
}

/** By which a confirmation names it. */
export const orderDigest = (order: SealOrder): string =>
  createHash('sha256').update(order.text).digest('hex');
