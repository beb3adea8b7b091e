/**
 * How much of a file the reader is willing to believe. Each limit is far above what published models need
 * (the largest headers seen are below 40 MiB) and low enough that a hostile file costs neither memory nor minutes.
 */

/** The header is read in pieces of this size; nothing larger is held except single strings below. */
export const CHUNK_BYTES = 1024 * 1024;
/** Everything before the tensors' data. */
export const HEADER_BYTES_MAX = 256 * 1024 * 1024;
export const KEYS_MAX = 16_384;
export const KEY_BYTES_MAX = 1024;
/** One text value (a chat template, a licence); elements of a list count one by one. */
export const STRING_BYTES_MAX = 16 * 1024 * 1024;
export const ARRAY_COUNT_MAX = 16 * 1024 * 1024;
/** Longer lists (vocabularies) stay in the file. */
export const ARRAY_HELD_COUNT_MAX = 1024;
/** All values together that are kept in memory. */
export const HELD_BYTES_MAX = 64 * 1024 * 1024;
export const TENSORS_MAX = 65_536;
/** llama.cpp's GGML_MAX_NAME without its final zero. */
export const TENSOR_NAME_BYTES_MAX = 63;
export const DIMENSIONS_MAX = 4;
export const ALIGNMENT_DEFAULT = 32;
export const ALIGNMENT_MAX = 65_536;
/** Parts of a split model. */
export const SPLIT_PARTS_MAX = 1024;
/** Layers of a model; the largest published ones have 126. */
export const LAYERS_MAX = 1024;
/** A row of the residual stream; bounds what `n_embd` may claim. */
export const EMBEDDING_LENGTH_MAX = 65_536;
/** Slices are read and handed on in pieces of this size; larger ones pile up in the sender on a fast link. */
export const COPY_BYTES = 512 * 1024;
/** A piece of a slice (a layer, or a part of a large one): its list of chunk digests must stay a small message. */
export const PIECE_BYTES_MAX = 4 * 1024 * 1024 * 1024;
/** A piece is checked, sent and resumed by chunks of this size; the last one may be shorter. */
export const PIECE_CHUNK_BYTES = 512 * 1024;
