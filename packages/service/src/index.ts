export { describeChange, describeUndo, typed, type Change, type Undo } from './change.ts';
export { type Left } from './apply.ts';
export { THIS_MACHINE, type FileFacts, type Machine } from './machine.ts';
export { helperPlist, nodePlist, plistFile } from './launchd.ts';
export * from './options.ts';
export { plistText, type PlistValue } from './plist.ts';
export { readRecord, RECORD_FILE, serviceHome, type ServiceRecord } from './record.ts';
export * from './service.ts';
export { planSystemd, unitText, UNIT_FILE, type Planned } from './systemd.ts';
