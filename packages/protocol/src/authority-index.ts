/** What issues certificates or asks for them: loaded only where that is done, for the ASN.1 library is large. */
export * from './authority.ts';
export * from './certificate-request.ts';
