/**
 * A process's log: one JSON object a line on stderr, which whoever started the process collects.
 * Text that came from outside is escaped by JSON and cut here, so that no line can be forged or fill a disk.
 */
const TEXT_LENGTH_MAX = 2_000;

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export type LogFields = Readonly<Record<string, string | number | boolean>>;

export interface Logger {
  (level: LogLevel, message: string, fields?: LogFields): void;
}

/** A logger for one process; `write` is process.stderr's in production. */
export function makeLogger(
  processName: string,
  write: (line: string) => void = (line) => void process.stderr.write(line),
): Logger {
  return (level, message, fields = {}) => {
    const cut = (value: string | number | boolean): string | number | boolean =>
      typeof value === 'string' ? value.slice(0, TEXT_LENGTH_MAX) : value;
    const extra = Object.fromEntries(Object.entries(fields).map(([k, v]) => [k, cut(v)]));
    const at = new Date().toISOString();
    write(
      `${JSON.stringify({ at, level, process: processName, message: cut(message), ...extra })}\n`,
    );
  };
}
