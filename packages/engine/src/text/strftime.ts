/**
 * `strftime_now` of chat templates, from a time that is handed in: the engine itself never asks for the date. Without
 * JavaScript's Date, which looks for the machine's time zone in files that the sandbox refuses (and reports).
 */

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
const DAY_SECONDS = 86_400;
/** Days of 400 years, after which the calendar repeats, and of the years and four years in it. */
const ERA_DAYS = 146_097;
/** From 1 March of year 0 to 1 January 1970. */
const EPOCH_DAYS = 719_468;
/** Years that four digits can show. */
const YEAR_MAX = 9999;

const two = (n: number): string => String(n).padStart(2, '0');

/**
 * Year, month (1 to 12) and day of a count of days since 1970, in the Gregorian calendar. Years begin in March here,
 * so that the leap day is the last of a year (public-domain algorithm by Howard Hinnant, "chrono-compatible dates").
 */
function civil(days: number): { year: number; month: number; day: number } {
  const shifted = days + EPOCH_DAYS;
  const era = Math.floor(shifted / ERA_DAYS);
  const dayOfEra = shifted - era * ERA_DAYS;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear =
    dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const fromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * fromMarch + 2) / 5) + 1;
  const month = fromMarch < 10 ? fromMarch + 3 : fromMarch - 9;
  return { year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day };
}

const isLeap = (year: number): boolean => year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
const DAYS_BEFORE = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/**
 * Formats Unix seconds as UTC, English names; a directive that is not known stays as it is, and `%-d` drops the zero.
 * Empty for a time outside the years 0 to 9999.
 */
export function strftime(format: string, unixSeconds: number): string {
  const days = Math.floor(unixSeconds / DAY_SECONDS);
  const { year, month: monthNumber, day: dayNumber } = civil(days);
  if (!(year >= 0 && year <= YEAR_MAX)) return '';
  const second = Math.floor(unixSeconds - days * DAY_SECONDS);
  const hour = Math.floor(second / 3600);
  const minute = Math.floor(second / 60) % 60;
  // 1 January 1970 was a Thursday.
  const day = DAYS[(((days + 4) % 7) + 7) % 7] ?? '';
  const month = MONTHS[monthNumber - 1] ?? '';
  const leapDay = monthNumber > 2 && isLeap(year) ? 1 : 0;
  const dayOfYear = (DAYS_BEFORE[monthNumber - 1] ?? 0) + dayNumber + leapDay;
  const values: Readonly<Record<string, string>> = {
    Y: String(year),
    y: two(year % 100),
    m: two(monthNumber),
    d: two(dayNumber),
    e: String(dayNumber).padStart(2, ' '),
    j: String(dayOfYear).padStart(3, '0'),
    H: two(hour),
    I: two(hour % 12 === 0 ? 12 : hour % 12),
    M: two(minute),
    S: two(second % 60),
    p: hour < 12 ? 'AM' : 'PM',
    A: day,
    a: day.slice(0, 3),
    B: month,
    b: month.slice(0, 3),
    F: `${year}-${two(monthNumber)}-${two(dayNumber)}`,
    T: `${two(hour)}:${two(minute)}:${two(second % 60)}`,
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
