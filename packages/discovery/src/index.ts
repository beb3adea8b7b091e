export { announce, type Announced, type Announcement } from './announce.ts';
export { find, type Found } from './find.ts';
export { discoveryId } from './id.ts';
