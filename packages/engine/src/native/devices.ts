/**
 * What llama.cpp could compute on, as it sees it from inside the sandbox: whether Metal found a GPU can be known only
 * there. Signatures: ggml-backend.h of llama.cpp v0.4.0.
 */
import koffi from 'koffi';
import type { EngineDevice } from '../messages.ts';

type Address = unknown;
/** `enum ggml_backend_dev_type`. */
const KINDS = ['cpu', 'gpu', 'igpu', 'accel'] as const;
const DEVICES_MAX = 20;

/** What koffi takes as a type of an argument, as far as it is used here. */
type Argument = string | ReturnType<typeof koffi.out>;
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters
type Maker = <T>(name: string, result: string, args: readonly Argument[]) => T;

/** `registry` makes functions of libggml, `base` of libggml-base. Call it after the backends are loaded. */
export function devicesOf(registry: Maker, base: Maker): EngineDevice[] {
  const count = registry<() => number>('ggml_backend_dev_count', 'size_t', [])();
  const get = registry<(i: number) => Address>('ggml_backend_dev_get', 'void*', ['size_t']);
  const name = base<(device: Address) => string>('ggml_backend_dev_name', 'str', ['void*']);
  const what = base<(device: Address) => string>('ggml_backend_dev_description', 'str', ['void*']);
  const kind = base<(device: Address) => number>('ggml_backend_dev_type', 'int', ['void*']);
  const size = koffi.out(koffi.pointer('size_t'));
  const memory = base<(device: Address, free: number[], total: number[]) => void>(
    'ggml_backend_dev_memory',
    'void',
    ['void*', size, size],
  );
  return Array.from({ length: Math.min(count, DEVICES_MAX) }, (_, i) => {
    const device = get(i);
    const total = [0];
    memory(device, [0], total);
    return {
      name: name(device),
      description: what(device),
      kind: KINDS[kind(device)] ?? 'other',
      memory_bytes: Number(total[0]),
    };
  });
}
