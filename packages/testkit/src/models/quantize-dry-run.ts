/** What llama.cpp's own quantiser would make of a file, without doing it: the oracle for the planner's known shapes. */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import koffi from 'koffi';
import { REPOSITORY } from '../needs.ts';

/** As llama.cpp v0.4.0 lays `llama_model_quantize_params` out: 64 bytes, ftype at 4, dry_run at 21. */
const PARAMS = koffi.struct({ bytes: koffi.array('uint8', 64, 'Array') });
const FTYPE_AT = 4;
const DRY_RUN_AT = 21;
/** The library's defaults that are not zero: a structure that was laid out differently has others. */
const KNOWN_DEFAULTS: Readonly<Record<number, number>> = { 4: 7, 8: 43, 12: 43, 17: 1, 60: 2 };
/** Bytes between fields, which nobody sets. */
const PADDING = [22, 23];
const LOG = koffi.proto('void minikeep_quantize_log(int level, const char* text, void* data)');

interface Library {
  readonly defaults: () => { bytes: number[] };
  readonly quantize: (from: string, to: string, params: { bytes: number[] }) => number;
  readonly logTo: (callback: bigint | null, data: null) => void;
}

let opened: Library | undefined;

function library(): Library {
  if (opened !== undefined) return opened;
  const folder = path.join(REPOSITORY, 'dist', 'lib');
  const name = readdirSync(folder).find((file) => /^libllama\..*(so|dylib)$/.test(file));
  if (name === undefined) throw new Error(`no libllama in ${folder}: run \`npm run build\``);
  const llama = koffi.load(path.join(folder, name));
  opened = {
    defaults: llama.func('llama_model_quantize_default_params', PARAMS, []) as Library['defaults'],
    quantize: llama.func('llama_model_quantize', 'uint32', [
      'str',
      'str',
      koffi.pointer(PARAMS),
    ]) as Library['quantize'],
    logTo: llama.func('llama_log_set', 'void', ['void*', 'void*']) as Library['logTo'],
  };
  return opened;
}

/** llama.cpp's log of quantising `file` to `llama_ftype` number `fileType`. Throws with the log when it refuses. */
export function quantizeDryRun(file: string, fileType: number): string {
  const { defaults, quantize, logTo } = library();
  const { bytes } = defaults();
  const unknown = bytes.findIndex(
    (byte, i) => !PADDING.includes(i) && byte !== (KNOWN_DEFAULTS[i] ?? 0),
  );
  if (unknown >= 0) throw new Error(`llama_model_quantize_params differs at byte ${unknown}`);
  bytes[FTYPE_AT] = fileType;
  bytes[DRY_RUN_AT] = 1;
  const lines: string[] = [];
  const callback = koffi.register(
    (_level: number, text: string) => void lines.push(text),
    koffi.pointer(LOG),
  );
  logTo(callback, null);
  try {
    if (quantize(file, `${file}.never`, { bytes }) !== 0) throw new Error(lines.join(''));
  } finally {
    logTo(null, null);
    koffi.unregister(callback);
  }
  return lines.join('');
}
