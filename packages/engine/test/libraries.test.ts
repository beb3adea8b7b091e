/** Which library is which: the file names of the two packages that the lockfile pins (llama.cpp v0.4.0). */
import { describe, expect, it } from 'vitest';
import { chooseLibraries } from '../src/native/libraries.ts';

/** `@node-llama-cpp/mac-arm64-metal` 3.21.1, as its archive lists them; all find each other by `@loader_path`. */
const MAC = [
  'libggml-base.dylib',
  'libggml-blas.so',
  'libggml-cpu-apple_m1.so',
  'libggml-cpu-apple_m2_m3.so',
  'libggml-cpu-apple_m4.so',
  'libggml-metal.so',
  'libggml.metal.v0.4.0.dylib',
  'libllama.metal.v0.4.0.dylib',
].map((name) => `/opt/lib/${name}`);

describe('libraries of a Mac', () => {
  it('are all told apart', () => {
    expect(chooseLibraries(MAC)).toEqual({
      base: '/opt/lib/libggml-base.dylib',
      ggml: '/opt/lib/libggml.metal.v0.4.0.dylib',
      llama: '/opt/lib/libllama.metal.v0.4.0.dylib',
      cpu: ['m1', 'm2_m3', 'm4'].map((chip) => `/opt/lib/libggml-cpu-apple_${chip}.so`),
      others: ['/opt/lib/libggml-blas.so', '/opt/lib/libggml-metal.so'],
    });
  });
  it.each(['libggml-base.dylib', 'libggml.metal.v0.4.0.dylib', 'libllama.metal.v0.4.0.dylib'])(
    'a missing %s is an error',
    (name) => {
      const files = MAC.filter((file) => !file.endsWith(`/${name}`));
      expect(() => chooseLibraries(files)).toThrow(
        expect.objectContaining({ code: 'engine.library_missing' }),
      );
    },
  );
});
