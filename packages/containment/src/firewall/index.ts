/** The firewall of a sealed node, as data. */
export * from './nft.ts';
export * from './wall.ts';
