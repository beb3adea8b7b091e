/**
 * Told of each address before a connection to it is made. A guarded process passes it on to its guard, which lets it
 * connect to what was named, and to nothing else.
 */
type Listener = (address: string) => void;

let listener: Listener | undefined;

export function onReaching(told: Listener): void {
  listener = told;
}

/** `address`: host:port. */
export function reaching(address: string): void {
  listener?.(address);
}
