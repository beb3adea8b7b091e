/** `strftime_now` of chat templates, from a time that is handed in: the engine itself never asks for the date. */

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

const two = (n: number): string => String(n).padStart(2, '0');

/** Formats Unix seconds as UTC, English names; a directive that is not known stays as it is. `%-d` drops the zero. */
export function strftime(format: string, unixSeconds: number): string {
  const date = new Date(unixSeconds * 1000);
  if (Number.isNaN(date.getTime())) return '';
  const year = date.getUTCFullYear();
  const hour = date.getUTCHours();
  const day = DAYS[date.getUTCDay()] ?? '';
  const month = MONTHS[date.getUTCMonth()] ?? '';
  const dayOfYear = Math.floor((date.getTime() - Date.UTC(year, 0, 1)) / DAY_MS) + 1;
  const values: Readonly<Record<string, string>> = {
    Y: String(year),
    y: two(year % 100),
    m: two(date.getUTCMonth() + 1),
    d: two(date.getUTCDate()),
    e: String(date.getUTCDate()).padStart(2, ' '),
    j: String(dayOfYear).padStart(3, '0'),
    H: two(hour),
    I: two(hour % 12 === 0 ? 12 : hour % 12),
    M: two(date.getUTCMinutes()),
    S: two(date.getUTCSeconds()),
    p: hour < 12 ? 'AM' : 'PM',
    A: day,
    a: day.slice(0, 3),
    B: month,
    b: month.slice(0, 3),
    F: `${year}-${two(date.getUTCMonth() + 1)}-${two(date.getUTCDate())}`,
    T: `${two(hour)}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`,
    z: '+0000',
    Z: 'UTC',
    '%': '%',
  };
  return format.replaceAll(/%(-?)([A-Za-z%])/g, (whole, dash: string, letter: string) => {
    const value = values[letter];
    if (value === undefined) return whole;
    return dash === '' ? value : value.replace(/^[0 ]+(?=\d)/, '');
  });
}
