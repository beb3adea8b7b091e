// Tests start the bundles in dist/: a test run never meets bundles older than the sources.
import { setup } from './setup.mjs';

export default setup;
