/** The version of everything in this repository; a test holds it equal to package.json's. */
export const MINIKEEP_VERSION = '0.1.0';
