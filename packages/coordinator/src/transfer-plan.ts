/**
 * Which node gets which piece from where. Pure. What a node holds is not sent; what another one holds comes from there,
 * shared evenly among those that hold it; the rest comes from the model's files here. A node is told of nothing that its
 * own slices don't need, and may fetch nothing else.
 */

/** A slice that a node needs, by its pieces in order. */
export interface WantedSlice {
  readonly node: string;
  readonly pieces: readonly WantedPiece[];
}

export interface WantedPiece {
  /** Lower-case hex. */
  readonly digest: string;
  readonly bytes: number;
  /** Its bytes can be had here. */
  readonly here: boolean;
}

/** One source of a slice. `node` undefined: the coordinator. */
export interface PlannedSource {
  readonly node: string | undefined;
  /** Positions in the slice's pieces. */
  readonly pieces: readonly number[];
}

export interface TransferPlan {
  /** For each wanted slice, in that order; the source to be tried first, first. */
  readonly sources: readonly (readonly PlannedSource[])[];
  /** Who may fetch what from whom. */
  readonly grants: readonly Grant[];
  /** For each wanted slice: bytes that will come from the coordinator and from other nodes if nothing fails. */
  readonly fetched: readonly { readonly fromHere: number; readonly fromNodes: number }[];
  /** Pieces that nobody has: position of the slice, position in it. */
  readonly missing: readonly { readonly slice: number; readonly piece: number }[];
}

export interface Grant {
  /** Undefined: the coordinator. */
  readonly from: string | undefined;
  readonly reader: string;
  readonly digests: readonly string[];
}

/** Besides the coordinator; more would only be tried when all of them fail. */
const PEERS_MAX = 3;

/** `holdings`: what each node that can be reached holds, of the wanted pieces. */
export function planTransfers(
  wanted: readonly WantedSlice[],
  holdings: ReadonlyMap<string, ReadonlySet<string>>,
): TransferPlan {
  /** Bytes that each node will send if nothing fails. */
  const load = new Map([...holdings.keys()].map((node) => [node, 0]));
  const sources: PlannedSource[][] = [];
  const fetched: { fromHere: number; fromNodes: number }[] = [];
  const grants = new Map<string, { grant: Omit<Grant, 'digests'>; digests: Set<string> }>();
  const missing: { slice: number; piece: number }[] = [];
  for (const [slice, { node, pieces }] of wanted.entries()) {
    const [first, others, here] = [
      new Map<string, number[]>(),
      new Map<string, number[]>(),
      [] as number[],
    ];
    const coming = { fromHere: 0, fromNodes: 0 };
    fetched.push(coming);
    for (const [piece, { digest, bytes, here: atHand }] of pieces.entries()) {
      const own = holdings.get(node)?.has(digest) === true;
      const holders = [...holdings]
        .filter(([name, held]) => name !== node && held.has(digest))
        .map(([name]) => name)
        .toSorted((a, b) => (load.get(a) ?? 0) - (load.get(b) ?? 0) || (a < b ? -1 : 1))
        .slice(0, PEERS_MAX);
      if (!own && !atHand && holders.length === 0) missing.push({ slice, piece });
      if (!own) coming[holders.length > 0 ? 'fromNodes' : 'fromHere'] += bytes;
      // Also when the node has it: its copy may turn out to be damaged.
      if (atHand) here.push(piece);
      for (const [i, holder] of holders.entries()) {
        if (i === 0 && !own) load.set(holder, (load.get(holder) ?? 0) + bytes);
        const list = i === 0 ? first : others;
        list.set(holder, [...(list.get(holder) ?? []), piece]);
      }
    }
    const planned: PlannedSource[] = [...first, ...others].map(([peer, theirs]) => ({
      node: peer,
      pieces: theirs,
    }));
    if (here.length > 0) planned.push({ node: undefined, pieces: here });
    sources.push(planned);
    for (const { node: from, pieces: theirs } of planned) {
      const key = `${from ?? ''} ${node}`;
      const known = grants.get(key) ?? { grant: { from, reader: node }, digests: new Set() };
      for (const piece of theirs) known.digests.add(pieces[piece]?.digest ?? '');
      grants.set(key, known);
    }
  }
  return {
    sources,
    fetched,
    grants: [...grants.values()].map(({ grant, digests }) => ({ ...grant, digests: [...digests] })),
    missing,
  };
}
