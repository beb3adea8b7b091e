/** Values as GGUF bytes. Callers pass values of ours, checked before, so a misfit is a fault in minikeep. */
import { SCALAR_TYPES, type ElementType, type Scalar, type ValueType } from '../types.ts';

const utf8 = new TextEncoder();

export const typeNumber = (type: ValueType): number => SCALAR_TYPES.indexOf(type);

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.byteLength;
  }
  return joined;
}

export function encodeText(text: string): Uint8Array {
  const bytes = utf8.encode(text);
  return concat([u64(bytes.byteLength), bytes]);
}

function fixed(bytes: number, set: (view: DataView) => void): Uint8Array {
  const view = new DataView(new ArrayBuffer(bytes));
  set(view);
  return new Uint8Array(view.buffer);
}

export const u32 = (value: number): Uint8Array => fixed(4, (v) => v.setUint32(0, value, true));
export const u64 = (value: number): Uint8Array =>
  fixed(8, (v) => v.setBigUint64(0, BigInt(value), true));

export function encodeScalar(type: ElementType, value: Scalar): Uint8Array {
  const n = Number(value);
  switch (type) {
    case 'uint8':
      return fixed(1, (v) => v.setUint8(0, n));
    case 'int8':
      return fixed(1, (v) => v.setInt8(0, n));
    case 'uint16':
      return fixed(2, (v) => v.setUint16(0, n, true));
    case 'int16':
      return fixed(2, (v) => v.setInt16(0, n, true));
    case 'uint32':
      return u32(n);
    case 'int32':
      return fixed(4, (v) => v.setInt32(0, n, true));
    case 'float32':
      return fixed(4, (v) => v.setFloat32(0, n, true));
    case 'float64':
      return fixed(8, (v) => v.setFloat64(0, n, true));
    case 'uint64':
      return fixed(8, (v) => v.setBigUint64(0, BigInt(value), true));
    case 'int64':
      return fixed(8, (v) => v.setBigInt64(0, BigInt(value), true));
    case 'bool':
      return fixed(1, (v) => v.setUint8(0, value === true ? 1 : 0));
    case 'string':
      return encodeText(String(value));
  }
}

export function encodeArray(of: ElementType, values: readonly Scalar[]): Uint8Array {
  return concat([
    u32(typeNumber(of)),
    u64(values.length),
    ...values.map((value) => encodeScalar(of, value)),
  ]);
}
