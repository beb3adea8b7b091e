/** Property lists as launchd reads them: the few kinds of values that its jobs have. */

export type PlistValue =
  | string
  | number
  | boolean
  | readonly PlistValue[]
  | { readonly [key: string]: PlistValue };

export function plistText(root: PlistValue): string {
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
${valueText(root, '')}
</plist>
`;
}

function valueText(value: PlistValue, indent: string): string {
  const inner = `${indent}  `;
  if (typeof value === 'string') return `${indent}<string>${escaped(value)}</string>`;
  if (typeof value === 'boolean') return `${indent}<${value ? 'true' : 'false'}/>`;
  if (typeof value === 'number') return `${indent}<integer>${Math.trunc(value)}</integer>`;
  if (Array.isArray(value))
    return [
      `${indent}<array>`,
      ...(value as readonly PlistValue[]).map((one) => valueText(one, inner)),
      `${indent}</array>`,
    ].join('\n');
  const entries = Object.entries(value as { readonly [key: string]: PlistValue });
  return [
    `${indent}<dict>`,
    ...entries.map(([key, one]) => `${inner}<key>${escaped(key)}</key>\n${valueText(one, inner)}`),
    `${indent}</dict>`,
  ].join('\n');
}

/** XML has no way to write control characters; a path with one is refused before it gets here. */
const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
