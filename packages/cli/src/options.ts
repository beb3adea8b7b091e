/** Reads the values of flags. A wrong one is a usage error that names the flag's range. */
import { InvalidArgumentError } from 'commander';

const INTEGER = /^-?\d+$/;
const DECIMAL = /^-?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$/;

export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!INTEGER.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    return value;
  };
}

export function decimal(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!DECIMAL.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`It must be a number from ${min} to ${max}.`);
    return value;
  };
}

/** "10,20" → [10, 20], rising. */
export function cuts(text: string): number[] {
  const values = text.split(',').map((part) => part.trim());
  const numbers = values.map(Number);
  const rising = numbers.every((n, i) => n > (i === 0 ? 0 : (numbers[i - 1] ?? 0)));
  if (!values.every((v) => INTEGER.test(v)) || !rising)
    throw new InvalidArgumentError('It must be layer numbers that rise, for example 10,20.');
  return numbers;
}

/** Collects a flag that may be given several times. */
export function collect(
  max: number,
  lengthMax: number,
): (text: string, before: string[]) => string[] {
  return (text, before) => {
    if (text === '' || text.length > lengthMax)
      throw new InvalidArgumentError(`It must have 1 to ${lengthMax} characters.`);
    if (before.length >= max)
      throw new InvalidArgumentError(`It can be given ${max} times at most.`);
    return [...before, text];
  };
}

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** "90s", "30m", "12h", "2d" → seconds. */
export function duration(minSeconds: number, maxSeconds: number): (text: string) => number {
  return (text) => {
    const match = /^(\d{1,7})([smhd])$/.exec(text);
    const seconds = Number(match?.[1]) * (UNITS[match?.[2] ?? ''] ?? Number.NaN);
    if (!(seconds >= minSeconds && seconds <= maxSeconds))
      throw new InvalidArgumentError(
        `It must be a time like 90s, 30m, 12h or 2d, from ${minSeconds} s to ${maxSeconds / 86_400} days.`,
      );
    return seconds;
  };
}
